"""Entries from other members: what a transport that lies and a hostile member gain."""

import errno
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.fleet import Fleet
from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet import exchange as module
from sentryfw.daemon.fleet import intake
from sentryfw.daemon.fleet.exchange import Exchange
from sentryfw.daemon.fleet.intake import Surroundings
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.fleet.entry import Elements, Entry, Statement
from sentryfw.fleet.seal import SEAL_COUNT, seal
from sentryfw.fleet.signature import Signer
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.netfilter.sets.mirror import KEY_BYTES, TIMEOUTS_S
from sentryfw.record import learnt as learnt_rows
from sentryfw.record.fleet import held, mirror
from sentryfw.record.learnt import LearntElement
from sentryfw.record.ledger import Ledger
from support.fake_table import FakeKernel, FakeTable

WALL = 1_800_000_000
ONE, TWO = Signer(b"1" * 32), Signer(b"2" * 32)
GATEWAY = ip_network("198.51.100.1/32")


class Recorded:
    """A recorder of events."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append((kind, fields))


class Site:
    """A firewall with two members, on a table in memory."""

    def __init__(self, state: Path, trust: str = "weigh", mode: Any = "block") -> None:
        members = {
            "fw1": {"key": ONE.public_key().hex(), "trust": trust},
            "fw2": {"key": TWO.public_key().hex()},
        }
        fleet = Fleet.model_validate({"name": "us", "members": members})
        self.config = Config.model_validate({"detect": {"mode": mode}}).model_copy(
            update={"paths": Paths(state=state), "fleet": fleet}
        )
        self.kernel = FakeKernel()
        self.kernel.install()
        self.restart()

    def restart(self) -> None:
        """Forget all but kernel and ledger."""
        self.recorder, self.memory = Recorded(), KnownBlocks()
        self.engine = Engine(self.config.horizons(), self.config.policy(NetworkIndex((GATEWAY,))))
        self.weighed = Weighed()
        recorder: Any = self.recorder
        around = Surroundings(self.engine, self.memory, self.weighed, recorder)
        self.exchange = Exchange(self.config, around)
        self.exchange.start(FakeTable(self.kernel), time.monotonic(), WALL)

    def receive(self, *items: Any) -> list[str]:
        answers = self.exchange.incoming({"entries": list(items)})
        return [str(a.get("effect") or a.get("refused") or a.get("warning")) for a in answers]

    def fleet(self) -> set[str]:
        """Return the addresses in the fleet's sets."""
        from sentryfw.netfilter.block_sets import blocked_of  # noqa: PLC0415

        return {blocked_of(item).address for item in FakeTable(self.kernel).decisions.of_fleet()}


def signed(entry: Statement, signer: Signer = ONE) -> dict[str, str]:
    raw = entry.encode()
    return {"entry": raw.decode(), "signature": signer.sign(raw).hex()}


def entry(seq: int, address: str = "192.0.2.7", **fields: Any) -> Entry:
    made = Entry(
        op="block", member="fw1", seq=seq, network=ip_network(address), duration_s=3600,
        evidence="proven", scan="decoy-scan", reason="why", at=WALL,
    )  # fmt: skip
    return made._replace(**fields)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    def build(*arguments: Any, **named: Any) -> Site:
        site = Site(tmp_path, *arguments, **named)
        for one in (module, intake):
            monkeypatch.setattr(one, "Table", lambda: FakeTable(site.kernel))
        return site

    monkeypatch.setattr(module.time, "time", lambda: float(WALL))
    return build


def test_proven_blocks_and_forgeable_is_weighed(make: Callable[..., Site]) -> None:
    site = make()
    forged = entry(2, "192.0.2.8", evidence="forgeable")
    assert site.receive(signed(entry(1)), signed(forged)) == ["block", "weigh"]
    assert site.fleet() == {"192.0.2.7"}
    assert [*site.weighed._ends] == [parse_source("192.0.2.8")]
    kinds = [(kind, fields["member"], fields["evidence"]) for kind, fields in site.recorder.notes]
    assert kinds == [("fleet", "fw1", "proven"), ("fleet", "fw1", "forgeable")]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (None, "not-an-object"),
        ({"entry": "{}"}, "not-an-object"),
        ({"entry": "{}", "signature": ""}, "bad-v"),
        ({"entry": "\u00e9", "signature": ""}, "not-an-object"),
        (signed(entry(1), TWO), "bad-signature"),
        ({**signed(entry(1)), "signature": "zz"}, "bad-signature"),
        ({**signed(entry(1)), "entry": signed(entry(2))["entry"]}, "bad-signature"),
        (signed(entry(1, member="fw3")), "unknown-member"),
        (signed(entry(1, member="us")), "echo"),
        (signed(entry(1, "0.0.0.0/0")), "network"),
        (signed(entry(1, "198.51.100.1")), "never-block"),
        (signed(entry(1, "127.0.0.1")), "never-block"),
        (signed(entry(1, "224.0.0.1")), "never-block"),
        (signed(entry(1, "203.0.113.5")), "never-block"),  # a partner
        (signed(entry(1, "fe80::/64")), "never-block"),  # many hosts on each link
        (signed(entry(1, duration_s=0)), "permanent"),
        (signed(entry(1, at=WALL - 10_000)), "over"),
    ],
)
def test_hostile_entries_have_no_effect(make: Callable[..., Site], item: Any, why: str) -> None:
    site = make()
    site.kernel.add("partner", "203.0.113.5")
    assert site.receive(item) == [why]
    assert site.fleet() == set()
    assert not site.weighed
    counts = site.exchange.status()
    refused = counts["unreadable"] or counts["members"]["fw1"]["refused"]
    assert refused == {why: 1}
    assert site.recorder.notes[0][0] == "fleet-refused"


def test_a_replay_changes_nothing_also_after_a_restart(make: Callable[..., Site]) -> None:
    site = make()
    assert site.receive(signed(entry(5)), signed(entry(5))) == ["block", "replay"]
    site.restart()
    assert site.receive(signed(entry(5)), signed(entry(4))) == ["replay", "replay"]
    assert site.exchange.positions() == {"fw1": 5, "fw2": 0}
    assert site.exchange.status()["members"]["fw1"]["blocks"] == 1


def test_a_restart_continues_what_is_weighed(make: Callable[..., Site]) -> None:
    site = make()
    site.receive(signed(entry(1, evidence="forgeable")))
    site.restart()
    assert site.weighed


def test_a_withdraw_lifts_unless_another_member_blocks_it(make: Callable[..., Site]) -> None:
    site = make()
    second = signed(entry(1, member="fw2"), TWO)
    assert site.receive(signed(entry(1)), second) == ["block", "block"]
    assert site.receive(signed(entry(2, op="withdraw"))) == ["lift"]
    assert site.fleet() == {"192.0.2.7"}
    assert site.receive(signed(entry(2, op="withdraw", member="fw2"), TWO)) == ["lift"]
    assert site.fleet() == set()
    with Ledger(site.config.paths.ledger) as ledger:
        assert held.active(ledger, WALL) == []


def test_a_block_and_its_withdraw_in_one_request(make: Callable[..., Site]) -> None:
    site = make()
    assert site.receive(signed(entry(1)), signed(entry(2, op="withdraw"))) == ["block", "lift"]
    assert site.fleet() == set()


def test_an_unblock_by_hand_is_local(make: Callable[..., Site]) -> None:
    site = make()
    site.receive(signed(entry(1)), signed(entry(2, "192.0.2.8")))
    site.weighed.released(parse_source("192.0.2.7"))
    assert site.receive(signed(entry(3, op="withdraw"))) == ["nothing-to-withdraw"]
    site.weighed.released(None)
    site.receive()
    assert site.exchange.status()["members"]["fw1"]["blocks"] == 0


def test_a_member_that_is_dropped_leaves_nothing(make: Callable[..., Site]) -> None:
    site = make()
    site.receive(signed(entry(1)), signed(entry(2, "192.0.2.8", evidence="forgeable")))
    site.receive(signed(entry(1, "192.0.2.9", member="fw2"), TWO))
    assert list(site.exchange.drop({"member": "fw1"})) == [{"count": 2}]
    assert site.fleet() == {"192.0.2.9"}
    assert not site.weighed
    with Ledger(site.config.paths.ledger) as ledger:
        assert [row.member for row in held.active(ledger, WALL)] == ["fw2"]
    with pytest.raises(SentryError, match="not a member"):
        next(site.exchange.drop({"member": "fw9"}))


def test_a_member_that_the_configuration_names_no_longer_leaves_nothing(
    make: Callable[..., Site],
) -> None:
    site = make()
    site.receive(signed(entry(1)))
    site.config = site.config.model_copy(update={"fleet": Fleet(name="us")})
    site.restart()
    assert site.fleet() == set()


def test_full_trust_lifts_the_caps_and_show_has_no_effect(make: Callable[..., Site]) -> None:
    site = make("full")
    assert site.receive(signed(entry(1, evidence="forgeable", duration_s=0))) == ["block"]
    shown = make("show")
    assert shown.receive(signed(entry(2, "192.0.2.9"))) == ["show"]
    assert "192.0.2.9" not in shown.fleet()


def test_observe_blocks_nothing(make: Callable[..., Site]) -> None:
    site = make("full", mode="observe")
    assert site.receive(signed(entry(1))) == ["show"]
    assert site.fleet() == set()


def test_a_ledger_that_fails_is_reported_and_the_block_stays(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()

    def full(*_: object) -> None:
        raise SentryError("disk full")

    monkeypatch.setattr(held, "forget_ended", full)
    effect, warning = site.receive(signed(entry(1)))
    assert effect == "block"
    assert "disk full" in warning
    assert site.fleet() == {"192.0.2.7"}


def test_a_set_that_is_full_is_reported_and_later_entries_count(make: Callable[..., Site]) -> None:
    site = make()
    site.kernel.refuse(errno.ENFILE)
    effect, warning = site.receive(signed(entry(1)))
    assert effect == "block"
    assert "the kernel did not take" in warning
    assert site.receive(signed(entry(2, "192.0.2.8"))) == ["block"]
    assert site.exchange.repaired(1)
    assert not site.exchange.repaired(1)
    site.exchange.refill()
    assert site.fleet() == {"192.0.2.7", "192.0.2.8"}


@pytest.mark.parametrize("entries", [None, "text", [None] * 101])
def test_a_request_has_a_short_list(make: Callable[..., Site], entries: object) -> None:
    with pytest.raises(SentryError, match="at most 100"):
        next(make().exchange.incoming({"entries": entries}))


def test_without_a_fleet_requests_are_refused(make: Callable[..., Site]) -> None:
    site = make()
    site.config = site.config.model_copy(update={"fleet": Fleet()})
    site.restart()
    for request in (site.exchange.incoming({"entries": []}), site.exchange.outgoing({"after": 0})):
        with pytest.raises(SentryError, match="no fleet"):
            next(request)


# --- full trust: the other half of a pair


def learnt(
    seq: int, name: str = "partner4", key: bytes = b"\xc0\x00\x02\x63", left: int = 900
) -> Any:
    return signed(Elements("fw1", seq, name, ((key, left),), WALL))


def test_networks_of_a_pair_are_blocked_withdrawn_and_kept(make: Callable[..., Site]) -> None:
    site = make("full")
    table = FakeTable(site.kernel)
    network = entry(1, "203.0.113.0/24", evidence="hand", scan="", duration_s=0)
    inner = entry(2, "203.0.113.128/25", evidence="hand", scan="", duration_s=60)
    assert site.receive(signed(network), signed(inner)) == ["block", "block"]
    assert [str(found) for found, _ in table.mirror.networks()] == ["203.0.113.0/24"]
    site.restart()
    assert [str(found) for found, _ in table.mirror.networks()] == ["203.0.113.0/24"]
    assert site.receive(signed(entry(3, "203.0.113.0/24", op="withdraw"))) == ["lift"]
    assert [str(found) for found, _ in table.mirror.networks()] == ["203.0.113.128/25"]
    assert list(site.exchange.release({"address": "203.0.113.128/25"})) == [{"count": 1}]
    assert list(site.exchange.drop({"member": "fw1"})) == [{"count": 0}]


def test_a_network_within_one_that_ends_is_blocked_then(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make("full")
    table, now = FakeTable(site.kernel), time.monotonic()
    outer = entry(1, "203.0.113.0/24", evidence="hand", scan="", duration_s=60)
    inner = entry(2, "203.0.113.128/25", evidence="hand", scan="", duration_s=900)
    site.receive(signed(outer), signed(inner), signed(entry(3)))
    assert [str(found) for found, _ in table.mirror.networks()] == ["203.0.113.0/24"]
    assert not site.exchange.repaired(0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 61)
    assert site.exchange.repaired(0), "though nothing was repaired"
    changes: list[object] = []
    monkeypatch.setattr(
        "support.fake_table.FakeDecisionSets.block_for_fleet", lambda *given: changes.append(given)
    )
    site.exchange.refill()
    assert [str(found) for found, _ in table.mirror.networks()] == ["203.0.113.128/25"]
    assert changes == [], "sources stay as they are"
    assert not site.exchange.repaired(0)


def test_an_unblock_of_a_pair_ends_our_own_block(make: Callable[..., Site]) -> None:
    site = make("full")
    source = parse_source("192.0.2.7")
    FakeTable(site.kernel).sets.block([(source, 600.0)])
    assert site.receive(signed(entry(1, op="unblock"))) == ["unblock"]
    assert not FakeTable(site.kernel).sets.is_blocked(source)
    assert site.receive(signed(entry(2, op="unblock"))) == ["unblock"], "and where there is none"
    weigh = make("weigh")
    FakeTable(weigh.kernel).sets.block([(source, 600.0)])
    assert weigh.receive(signed(entry(3, op="unblock"))) == ["needs-full-trust"]
    assert FakeTable(weigh.kernel).sets.is_blocked(source)


def test_what_a_pair_has_learnt_is_learnt_and_not_sent_back(make: Callable[..., Site]) -> None:
    site = make("full")
    assert site.receive(learnt(1)) == ["learn"]
    elements = site.kernel.require("test").learnt["partner4"]
    assert [(key, found.timeout) for key, found in elements.items()] == [
        (b"\xc0\x00\x02\x63", 900.0)
    ]
    assert site.exchange.status()["members"]["fw1"]["learnt"] == 1
    with Ledger(site.config.paths.ledger) as ledger:
        rows = [LearntElement(b"\xc0\x00\x02\x63", 900.0, WALL + 905.0)]
        learnt_rows.save(ledger, "partner4", rows)
        assert mirror.sweep(ledger, KEY_BYTES, WALL) == 0


@pytest.mark.parametrize(
    ("trust", "fields", "why"),
    [
        ("weigh", {}, "needs-full-trust"), ("show", {}, "needs-full-trust"),
        ("full", {"name": "block4"}, "bad-set"), ("full", {"name": "never_block4"}, "bad-set"),
        ("full", {"key": b"\0" * 16}, "bad-set"),
    ],
)  # fmt: skip
def test_hostile_elements_have_no_effect(
    make: Callable[..., Site], trust: str, fields: dict[str, Any], why: str
) -> None:
    site = make(trust)
    assert site.receive(learnt(1, **fields)) == [why]
    assert site.kernel.require("test").learnt == {}
    assert site.exchange.status()["members"]["fw1"]["refused"] == {why: 1}


def test_elements_have_the_timeouts_of_their_set_at_most(make: Callable[..., Site]) -> None:
    site = make("full")
    assert site.receive(learnt(1, left=10**8)) == ["learn"]
    [found] = site.kernel.require("test").learnt["partner4"].values()
    assert found.timeout == TIMEOUTS_S["partner4"]


def test_a_learnt_set_that_others_have_filled_takes_no_more(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make("full")
    monkeypatch.setattr("support.fake_table.FakeMirrorSets.has_room", lambda *_: False)
    assert site.receive(learnt(1)) == ["full"]


# --- parts


def part_of(*entries: Statement, signer: Signer = ONE, member: str = "fw1") -> dict[str, Any]:
    """Return a request with a part and its seal."""
    texts = [one.encode().decode() for one in entries]
    text = seal(member, [one.seq for one in entries], texts).encode()
    signed_seal = {"entry": text.decode(), "signature": signer.sign(text).hex()}
    return {"do": "fleet-part", "entries": texts, "seal": signed_seal}


def many(first: int, count: int, **fields: Any) -> list[Entry]:
    return [
        entry(number, f"192.0.{number // 256}.{number % 256}", **fields)
        for number in range(first, first + count)
    ]


def test_a_part_counts_by_its_seal(make: Callable[..., Site]) -> None:
    site = make()
    request = part_of(*many(10, 30), entry(41, "192.0.2.250", evidence="forgeable"))
    assert list(site.exchange.part(request)) == [{"effects": {"block": 30, "weigh": 1}}]
    assert len(site.fleet()) == 30
    assert site.exchange.positions()["fw1"] == 41
    [(kind, fields)] = site.recorder.notes
    assert kind == "fleet-part"
    assert (fields["member"], fields["count"], fields["first"], fields["last"]) == (
        "fw1", 31, 10, 41,
    )  # fmt: skip
    assert fields["effects"] == {"block": 30, "weigh": 1}
    assert fields["gap"] == 1, "number 40 was left out"
    with Ledger(site.config.paths.ledger) as ledger:
        assert len(held.active(ledger, WALL)) == 31
        assert held.numbers(ledger)["fw1"] == 41
    assert list(site.exchange.part(request)) == [{"effects": {"refused: replay": 31}}]


def test_one_forged_entry_fails_its_part(make: Callable[..., Site]) -> None:
    """Nothing of it has an effect; with their own signatures the true ones count."""
    site = make()
    true = many(1, 4)
    forged = [*true[:3], entry(4, "203.0.113.99")]
    request = part_of(*true) | {"entries": [one.encode().decode() for one in forged]}
    [answer] = site.exchange.part(request)
    assert "unsealed" in answer
    assert site.fleet() == set()
    assert site.exchange.positions()["fw1"] == 0
    assert site.exchange.status()["unreadable"] == {"bad-seal": 1}
    singles = [*map(signed, true[:3]), signed(forged[3], TWO)]
    assert site.receive(*singles) == ["block"] * 3 + ["bad-signature"]


@pytest.mark.parametrize(
    "change",
    [
        {"seal": None}, {"seal": {"entry": "{}", "signature": ""}}, {"entries": []},
        {"entries": [None, None]}, {"entries": ["\u00e9"]},
        {"seal": {**part_of(*many(1, 2))["seal"], "signature": "zz"}},
        part_of(*many(1, 2), signer=TWO), part_of(*many(1, 2), member="fw2"),
        part_of(*many(1, 2), member="fw3"), part_of(*many(1, 2), member="us"),
        part_of(*many(1, 3)) | {"entries": part_of(*many(1, 2))["entries"]},
    ],
)  # fmt: skip
def test_a_seal_that_is_not_that_of_the_entries_has_no_effect(
    make: Callable[..., Site], change: dict[str, Any]
) -> None:
    site = make()
    [answer] = site.exchange.part(part_of(*many(1, 2)) | change)
    assert "unsealed" in answer
    assert site.fleet() == set()


def test_a_seal_of_a_member_covers_its_own_entries_alone(make: Callable[..., Site]) -> None:
    """The seal counts neither for entries of another member nor for numbers outside of the part."""
    site = make()
    theirs = part_of(entry(1), entry(2, "192.0.2.8", member="fw2"))
    assert list(site.exchange.part(theirs)) == [{"effects": {"block": 1, "refused: bad-seal": 1}}]
    texts = [one.encode().decode() for one in (entry(3, "192.0.2.9"), entry(900, "192.0.2.10"))]
    text = seal("fw1", (3, 4), texts).encode()
    signed_seal = {"entry": text.decode(), "signature": ONE.sign(text).hex()}
    [answer] = site.exchange.part({"entries": texts, "seal": signed_seal})
    assert answer == {"effects": {"block": 1, "refused: bad-seal": 1}}
    assert site.exchange.positions() == {"fw1": 3, "fw2": 0}


def test_caps_and_exemptions_hold_within_a_part(make: Callable[..., Site]) -> None:
    site = make()
    site.kernel.add("partner", "192.0.0.7")
    limits = site.exchange.intake.standings["fw1"]
    limits.member = limits.member._replace(max_alive=20, per_minute=1)
    limits.credit = 20.0
    found = list(site.exchange.part(part_of(entry(1, "198.51.100.1"), *many(2, 60))))
    assert found == [{"effects": {
        "refused: never-block": 2, "block": 20, "refused: too-fast": 39,
    }}]  # fmt: skip
    assert len(site.fleet()) == 20
    assert "192.0.0.7" not in site.fleet(), "a partner"


def test_a_part_may_be_learnt_and_ended_as_single_entries_are(make: Callable[..., Site]) -> None:
    site = make("full")
    statements = [
        entry(1), Elements("fw1", 2, "partner4", ((b"\xc0\x00\x02\x63", 900),), WALL),
        entry(3, op="withdraw"), entry(4, "192.0.2.8"),
    ]  # fmt: skip
    assert list(site.exchange.part(part_of(*statements))) == [
        {"effects": {"block": 2, "learn": 1, "lift": 1}}
    ]
    assert site.fleet() == {"192.0.2.8"}


@pytest.mark.parametrize("entries", [None, "text", [""] * (SEAL_COUNT + 1)])
def test_a_part_has_a_short_list(make: Callable[..., Site], entries: object) -> None:
    with pytest.raises(SentryError, match="at most 128"):
        next(make().exchange.part({"entries": entries}))


def test_a_fault_of_the_kernel_is_reported_for_a_part(make: Callable[..., Site]) -> None:
    site = make()
    site.kernel.refuse(errno.ENFILE)
    effects, warning = site.exchange.part(part_of(*many(1, 2)))
    assert effects == {"effects": {"block": 2}}
    assert "the kernel did not take" in warning["warning"]
