"""Blocks in the kernel: when they start and end, and which packets they drop."""

import time
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, Lab, Sentry, synacks
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def _unblock(lab: Lab, daemon: Sentry, address: str) -> None:
    lab.table.sets.unblock(parse_source(address, LINK_LOCAL_ONLY))
    daemon.release(address)


@both_families
def test_a_block_expires_in_the_kernel(lab: Lab, start_daemon: StartDaemon, family: int) -> None:
    daemon = start_daemon('[block]\ntimeouts = ["2s"]')
    lab.listen(LISTED, family)
    lab.probe(ATTACKER[family], *UNLISTED)
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "blocked")
    blocked = time.monotonic()
    daemon.alert(ATTACKER[family])
    assert not lab.answers(ATTACKER[family])
    wait_for(lambda: not lab.is_blocked(ATTACKER[family]), "the end of the block")
    assert 1.5 < time.monotonic() - blocked < 4
    assert lab.answers(ATTACKER[family])


def test_each_offence_is_blocked_longer_than_the_last(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon('[block]\ntimeouts = ["10m", "1h", "1d"]')
    for offence, timeout in ((1, 600), (2, 3600), (3, 86400), (4, 86400)):
        lab.probe(ATTACKER[4], *UNLISTED)
        wait_for(lambda: len(daemon.alerts(ATTACKER[4])) == offence, "blocked")  # noqa: B023
        [blocked] = lab.table.sets.blocked_sources()
        assert (blocked.timeout, blocked.address) == (timeout, ATTACKER[4])
        assert daemon.alert(ATTACKER[4])["sentryfw"]["offence"] == offence
        _unblock(lab, daemon, ATTACKER[4])


@both_families
def test_an_unblocked_source_is_answered_and_judged_again(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family])
    assert not lab.answers(ATTACKER[family])
    _unblock(lab, daemon, ATTACKER[family])
    assert lab.answers(ATTACKER[family])
    lab.probe(ATTACKER[family], *UNLISTED[:2])
    wait_for(lambda: lab.count("judged") == 5, "two more probes")
    assert not lab.is_blocked(ATTACKER[family])


def test_a_block_drops_the_packets_of_an_open_connection(lab: Lab, daemon: Sentry) -> None:
    listener = lab.listen()
    client = lab.open(ATTACKER[4])
    server, _ = listener.accept()
    with server:
        lab.table.sets.block([(parse_source(ATTACKER[4]), 600)])
        client.sendall(b"more")
        wait_for(lambda: lab.count("blocked_late"), "the segment is dropped")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(4)


@both_families
def test_a_connection_that_the_victim_opened_survives_a_block(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    outside = lab.listen(4000, family, lab.attacker)
    ours = lab.open_from_victim(ATTACKER[family], 4000)
    theirs, _ = outside.accept()
    with theirs:
        lab.probe(ATTACKER[family], *UNLISTED)
        daemon.alert(ATTACKER[family])
        theirs.sendall(b"an answer")
        assert ours.recv(9) == b"an answer"


@pytest.mark.parametrize(
    ("network", "family"), [("198.18.0.2/31", 4), ("2001:2:0:0::/62", 6)], ids=["ipv4", "ipv6"]
)
def test_a_network_blocked_by_hand_is_not_answered(
    lab: Lab, daemon: Sentry, network: str, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.victim.call(lambda: lab.table.sets.block_network(ip_network(network), 600))
    lab.wire.received()
    for dropped, source in enumerate((ATTACKER[family], BYSTANDER[family]), start=1):
        lab.probe(source, LISTED)
        wait_for(lambda: lab.count("blocked_early") == dropped, "dropped")  # noqa: B023
    assert synacks(lab.wire.received(), LISTED) == []
    lab.victim.call(lambda: lab.table.sets.unblock_network(ip_network(network)))
    assert lab.answers(ATTACKER[family])
