"""Forged packets: the consequences for the hosts whose addresses are forged."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from support.forgery import (
    DOCUMENT,
    ROLES,
    VICTIM4,
    Scene,
    Seen,
    document,
    documented,
    table,
)
from support.frames import tcp_frame
from support.lab import ATTACKER, LISTED, UNLISTED, Sentry, drain, synacks
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

ALL: Final = "DNS, TCP, ping"
SPARED: Final = Seen("refused: never_block", "answered", ALL)
PARTNER: Final = Seen("confined for 60 min to what it uses (portscan)", "answered", ALL)
CONFINED_DECOY: Final = Seen("confined for 60 min to what it uses (decoy-scan)", "answered", ALL)
DECOY: Final = Seen("blocked for 10 min (decoy-scan)", "dropped", ALL)
SCANNER: Final = Seen("blocked for 60 min (portscan)", "dropped", ALL)


def _expected(stranger: Seen, partner: Seen = PARTNER) -> dict[str, Seen]:
    return {"partner": partner, "gateway": SPARED, "resolver": SPARED, "stranger": stranger}


EXPECTED: Final = {
    "`nmap -sS -D`": {**_expected(DECOY, CONFINED_DECOY), "the attacker itself": DECOY},
    "SYN to 3 closed ports": _expected(SCANNER),
    "UDP to 3 closed ports": _expected(SCANNER),
    "NULL to 3 closed ports": _expected(SCANNER),
    "ACK to 3 closed ports": _expected(SCANNER, Seen("never judged", "answered", ALL)),
}


def _nmap(scene: Scene) -> None:
    decoys = ",".join(ROLES.values())
    command = ["nmap", "-n", "-Pn", "-sS", "-p", "7001-7010", "--max-retries", "0", "-D", decoys]
    nmap = scene.lab.attacker.popen([*command, VICTIM4])
    try:
        wait_for(lambda: scene.lab.is_blocked(ATTACKER[4]), "the end of the scan", 20)
        wait_for(lambda: scene.lab.is_blocked(ROLES["stranger"]), "the decoy's block", 20)
    finally:
        nmap.kill()
        nmap.communicate()


ATTACKS: Final[dict[str, Callable[[Scene], object]]] = {
    "`nmap -sS -D`": _nmap,
    "SYN to 3 closed ports": lambda scene: _from_every_address(scene, scene.syn),
    "UDP to 3 closed ports": lambda scene: _from_every_address(scene, scene.udp),
    "NULL to 3 closed ports": lambda scene: _from_every_address(scene, scene.null),
    "ACK to 3 closed ports": lambda scene: _from_every_address(scene, scene.ack),
}


def _from_every_address(scene: Scene, frame: Callable[[str, int], bytes]) -> None:
    for address in ROLES.values():
        scene.forge(frame, address)


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Seen]:
    """The results of every attack, by the host whose address was forged."""
    seen = {}
    for how, attack in ATTACKS.items():
        with Scene() as scene:
            attack(scene)
            wait_for(lambda: scene.daemon.alerts(ROLES["stranger"]), "the stranger is judged")
            drain(scene.daemon)
            for role in EXPECTED[how]:
                seen[how, role] = scene.result(ROLES.get(role, ATTACKER[4]))
    document(seen)
    return seen


ROWS: Final = [(how, role) for how, roles in EXPECTED.items() for role in roles]


@pytest.mark.nmap
@pytest.mark.parametrize(("how", "role"), ROWS, ids=lambda word: word.replace(" ", "-"))
def test_a_forgery_has_the_documented_consequences(
    found: dict[tuple[str, str], Seen], how: str, role: str
) -> None:
    assert found[how, role] == EXPECTED[how][role]


@pytest.mark.nmap
def test_the_document_has_these_rows(found: dict[tuple[str, str], Seen]) -> None:
    assert documented() == table(found), f"SENTRYFW_DOCS=write writes {DOCUMENT.name} again"


# --- caps and floods


@pytest.fixture
def scene() -> Iterator[Callable[[str], Scene]]:
    made: list[Scene] = []

    def make(settings: str = "") -> Scene:
        made.append(Scene(settings))
        return made[-1].__enter__()

    yield make
    for one in made:
        one.__exit__()


def _strangers(count: int, second: int = 24) -> list[str]:
    return [f"198.{second}.{n >> 8}.{n & 0xFF}" for n in range(count)]


def _nulls(scene: Scene, sources: list[str], *ports: int) -> None:
    """Send NULL packets; of what no stack sends, two targets are enough to block."""
    frames = [
        tcp_frame(scene.lab.ether, source, VICTIM4, 40000, port, 0)
        for source in sources
        for port in ports or (7001, 7002)
    ]
    scene.lab.wire.send(*frames)
    drain(scene.daemon)


@pytest.mark.parametrize(
    ("settings", "cap", "limit"),
    [
        ("per_minute = 50", "block.per_minute", 50),
        ("per_minute = 60\nmax_elements = 40", "block.max_elements", 40),
    ],
    ids=["blocks-a-minute", "size-of-the-set"],
)
def test_no_more_are_blocked_than_the_caps_allow(
    scene: Callable[[str], Scene], settings: str, cap: str, limit: int
) -> None:
    attacked = scene(f"[block]\n{settings}")
    sources = _strangers(300)
    _nulls(attacked, sources)
    assert {b.address for b in attacked.lab.table.sets.blocked_sources()} == set(sources[:limit])
    assert attacked.daemon.status()["engine"][f"refused {cap}"] == 300 - limit
    refused = attacked.daemon.alert(sources[limit], action="allowed")["sentryfw"]
    assert refused["reason"] == cap
    assert attacked.lab.answers(ROLES["stranger"])


def _flood_notes(daemon: Sentry) -> list[bool]:
    return [e["sentryfw"]["on"] for e in daemon.events() if e["sentryfw"].get("event") == "flood"]


def _is_refusal(event: dict[str, Any]) -> bool:
    return event.get("alert", {}).get("action") == "allowed"


def test_flood_mode_is_entered_reported_and_left(scene: Callable[[str], Scene]) -> None:
    """In it a single forged packet causes no block, and other clients are served."""
    attacked = scene("")
    daemon, lab = attacked.daemon, attacked.lab
    sources = _strangers(6000)
    _nulls(attacked, sources, 7001)
    _nulls(attacked, sources[-1500:], 7002)
    status = daemon.status()
    assert status["engine"]["floods"] == 1
    assert list(lab.table.sets.blocked_sources()) == []  # two of each source would suffice before
    assert "refused flood" not in status["engine"]
    for role in ROLES:
        assert lab.answers(ROLES[role]), role
    wait_for(lambda: _flood_notes(daemon) == [True, False], "the flood's beginning and end")
    assert not any(map(_is_refusal, daemon.events()))
    assert not daemon.status()["flood"]
    _nulls(attacked, _strangers(1, second=25))
    assert lab.is_blocked("198.25.0.0")


def test_flood_mode_is_shown_while_it_lasts(scene: Callable[[str], Scene]) -> None:
    attacked = scene("")
    batches = itertools.count()

    def flooded() -> bool:
        number = next(batches)
        _nulls(
            attacked,
            [f"198.26.{n >> 8}.{n & 0xFF}" for n in range(number * 400, (number + 1) * 400)],
            7001,
        )
        return bool(attacked.daemon.status()["flood"])

    wait_for(flooded, "flood mode")
    wait_for(lambda: _flood_notes(attacked.daemon)[:1] == [True], "it is said")


def test_a_scanner_in_a_flood_is_blocked(scene: Callable[[str], Scene]) -> None:
    attacked = scene("")
    _nulls(attacked, _strangers(3000), 7001)
    attacked.lab.probe(ROLES["stranger"], *UNLISTED)
    wait_for(lambda: attacked.lab.is_blocked(ROLES["stranger"]), "blocked")


def test_forged_syns_to_a_listed_port_cause_no_block(scene: Callable[[str], Scene]) -> None:
    """Their names answer our SYN/ACK with a reset; that alone is one target, and weighs half."""
    attacked = scene("")
    lab = attacked.lab
    lab.wire.received()
    for port in range(40000, 40020):
        frame = tcp_frame(lab.ether, ROLES["stranger"], VICTIM4, port, LISTED)
        lab.wire.send(frame)
    wait_for(lambda: synacks(lab.wire.received(), LISTED), "our answers to the forged name")
    drain(attacked.daemon)
    assert not lab.is_blocked(ROLES["stranger"])
    assert lab.answers(ROLES["stranger"])
