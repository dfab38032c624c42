"""Scanners inside: a finding of their own, by triggers of their own, observed by default."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.lab import ATTACKER, INTERFACE, LISTED, UNLISTED, Lab, Sentry, drain
from support.router import BEHIND, ROUTER, Router
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

INSIDE: Final = '[watch]\ninside = ["lan*"]\n[inside]\ntrigger = 8\n'
BLOCKING: Final = f'{INSIDE}mode = "block"\n'
FORWARD: Final = INSIDE.replace("[inside]", "forward = true\n[inside]")
PORTS: Final = tuple(range(7001, 7009))


@pytest.fixture
def start(lab: Lab, router: Router) -> Iterator[Any]:
    """Start daemons, each with its configuration, on a router with two sides."""
    made: list[Sentry] = []

    def begin(settings: str) -> Sentry:
        made.append(Sentry(lab, settings))
        return made[-1].start()

    yield begin
    for sentry in made:
        sentry.close()


def _knock(host: Namespace, *targets: tuple[str, int]) -> None:
    """Send one datagram to each address and port."""
    words = " ".join(f"echo >/dev/udp/{address}/{port};" for address, port in targets)
    done = host.run("bash", "-c", words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_scanner_inside_is_reported_with_the_technique_of_discovery(
    lab: Lab, router: Router, start: Any, family: int
) -> None:
    sentry = start(INSIDE)
    _knock(router.behind, *((ROUTER[family], port) for port in PORTS[:-1]))
    wait_for(lambda: lab.count("judged") == 7, "seven probes")
    drain(sentry)
    assert sentry.alerts(BEHIND[family]) == []
    _knock(router.behind, (ROUTER[family], PORTS[-1]))
    event = sentry.alert(BEHIND[family], "allowed")
    assert event["sentryfw"]["reason"] == "observe"
    assert event["sentryfw"]["inside"]
    assert event["alert"]["metadata"]["mitre_technique_id"] == ["T1046"]
    assert not lab.is_blocked(BEHIND[family])


def test_a_scanner_outside_is_judged_by_detect(lab: Lab, start: Any) -> None:
    sentry = start(INSIDE)
    lab.probe(ATTACKER[4], *UNLISTED)
    event = sentry.alert(ATTACKER[4])
    assert not event["sentryfw"]["inside"]
    assert event["alert"]["metadata"]["mitre_technique_id"] == ["T1595.001"]


def test_a_scanner_inside_is_blocked_in_mode_block(lab: Lab, router: Router, start: Any) -> None:
    sentry = start(BLOCKING)
    _knock(router.behind, *((ROUTER[4], port) for port in PORTS))
    sentry.alert(BEHIND[4])
    assert lab.is_blocked(BEHIND[4])
    sentry.release(BEHIND[4])


def test_nothing_from_inside_is_dropped_for_being_unlisted(
    lab: Lab, router: Router, start: Any
) -> None:
    start(INSIDE)
    done = router.behind.run("bash", "-c", f"echo >/dev/tcp/{ROUTER[4]}/7001")
    assert "refused" in done.stderr


def test_what_is_opened_from_inside_to_the_outside_is_not_judged(
    lab: Lab, router: Router, start: Any
) -> None:
    sentry = start(FORWARD)
    lab.listen(LISTED, 4, lab.attacker)
    router.open_from_behind(4, LISTED).close()
    _knock(router.behind, *((ATTACKER[4], port) for port in PORTS))
    drain(sentry)
    assert lab.count("judged") == 0


def test_a_sweep_over_another_inside_network_is_a_portsweep(
    lab: Lab, router: Router, start: Any
) -> None:
    with Namespace() as other:
        connect(lab.victim, other, ("lan1", INTERFACE))
        add_address(lab.victim, "lan1", "198.18.65.1/24")
        sentry = start(FORWARD)
        _knock(router.behind, *((f"198.18.65.{n}", 161) for n in range(10, 18)))
        assert sentry.alert(BEHIND[4], "allowed")["sentryfw"]["scan"] == "portsweep"


def test_decoys_are_not_shown_inside(lab: Lab, router: Router, start: Any) -> None:
    sentry = start(f"{INSIDE}[decoy]\ntcp = [7001]\nbanner = 'go away'\nudp = [7002]\n")
    done = router.behind.run("bash", "-c", f"echo >/dev/tcp/{ROUTER[4]}/7001")
    assert "refused" in done.stderr
    _knock(router.behind, (ROUTER[4], 7002))
    wait_for(lambda: lab.count("judged") == 2, "two unlisted ports")
    drain(sentry)
    assert sentry.alerts(BEHIND[4]) == []
    lab.open(ATTACKER[4], 7001)
    sentry.alert(ATTACKER[4])
