"""The named counters of the table count what their names state."""

import socket
import struct

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from support.frames import ACK, PSH, RST, SYN, icmp_frame, ip_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
METER_BURST = 1000
"""Packets of one source that pass before its meter drops (rulesets/judge.nft)."""


def _counts(lab: Lab) -> dict[str, int]:
    """Return the counters that are not 0, without `queued`, which counts all of them again."""
    counters = lab.table.counters()
    counts = {name: counter.packets for name, counter in counters.items() if counter.packets}
    counts.pop("queued", None)
    return counts


@both_families
def test_judged_counts_unlisted_probes(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.probe(ATTACKER[family], *UNLISTED[:2])
    wait_for(lambda: _counts(lab) == {"judged": 2}, "two judged")


@both_families
def test_held_counts_packets_of_a_suspect_to_listed_ports(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.open(BYSTANDER[family])
    lab.probe(ATTACKER[family], UNLISTED[0], LISTED)
    # Let through, it is answered; the attacker's kernel resets what it did not ask for.
    expected = {"judged": 1, "held": 1, "half_open": 1}
    wait_for(lambda: _counts(lab) == expected, "one judged, one held, one reset")


@both_families
def test_backscatter_counts_answers_without_a_request(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.probe(ATTACKER[family], *UNLISTED, flags=SYN | ACK)
    lab.probe(ATTACKER[family], *UNLISTED, flags=RST)
    wait_for(lambda: _counts(lab) == {"backscatter": 6}, "six strays")


@both_families
def test_blocked_packets_are_counted_where_they_are_dropped(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.table.sets.block([(parse_source(ATTACKER[family], LINK_LOCAL_ONLY), 600)])
    lab.probe(ATTACKER[family], *UNLISTED)
    wait_for(lambda: _counts(lab) == {"blocked_early": 3}, "SYNs, before conntrack")
    lab.probe(ATTACKER[family], *UNLISTED[:2], flags=PSH)
    wait_for(lambda: _counts(lab) == {"blocked_early": 3, "blocked_late": 2}, "the rest, after")
    [blocked] = lab.table.sets.blocked_sources()
    assert blocked.packets == 5
    assert blocked.bytes == 5 * (40 if family == 4 else 60)


@both_families
def test_half_open_counts_resets_of_unfinished_connections(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.open(BYSTANDER[family])
    lab.probe(ATTACKER[family], LISTED)  # its kernel resets the SYN/ACK it did not ask for
    wait_for(lambda: _counts(lab) == {"half_open": 1}, "one half-open")
    wait_for(lambda: daemon.status()["engine"].get("rst") == 1, "it is judged")


def _is_answer(frame: bytes) -> bool:
    """Return whether a frame is an echo reply of IPv4."""
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34] == 0


def test_unjudged_counts_pings_beyond_the_limit_and_drops_none(lab: Lab, daemon: Sentry) -> None:
    """A source has 100 a second and 200 at once; each ping is a connection of its own."""
    pings = (icmp_frame(lab.ether, ATTACKER[4], VICTIM[4], 8, n << 16) for n in range(5000))
    lab.wire.send(*pings)
    drain(daemon)
    counts = _counts(lab)
    assert set(counts) == {"judged", "unjudged"}
    assert counts["judged"] + counts["unjudged"] == 5000
    assert counts["unjudged"] > 500
    answers = [frame for frame in lab.wire.received() if _is_answer(frame)]
    assert len(answers) == 5000


@both_families
def test_over_source_counts_packets_beyond_the_rate_of_one_source(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """One port, many times: not enough targets for a block."""
    lab.probe(ATTACKER[family], *[UNLISTED[0]] * 4000)
    drain(daemon)
    counts = wait_for(lambda: _counts(lab) if lab.count("judged") == 4000 else None, "all counted")
    passed = daemon.status()["engine"]["syn"]
    assert counts == {"judged": 4000, "over_source": 4000 - passed}
    assert METER_BURST <= passed < 4000
    lab.probe(BYSTANDER[family], *UNLISTED)
    daemon.alert(BYSTANDER[family])


def test_over_limit_counts_new_sources_beyond_the_limit(lab: Lab, daemon: Sentry) -> None:
    """A forged flood, faster than the 2,000 new sources a second that are let in, and longer than
    the 4,000 that may come at once."""
    lab.flood(70_000, UNLISTED[0])
    drain(daemon)
    counts = _counts(lab)
    assert counts["judged"] == 70_000
    assert 0 < counts["over_limit"] <= 66_000
    assert daemon.status()["engine"]["syn"] <= 70_000 - counts["over_limit"]
    wait_for(lambda: daemon.status()["engine"]["floods"] == 1, "the flood is noticed")
    assert list(lab.table.sets.blocked_sources()) == []


def _pings(lab: Lab, source: str, count: int) -> None:
    kind = 128 if ":" in source else 8
    target = VICTIM[6 if ":" in source else 4]
    lab.wire.send(*(icmp_frame(lab.ether, source, target, kind, n << 16) for n in range(count)))


@both_families
def test_one_source_does_not_use_up_the_limit_of_icmp(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """Beyond the limit of all, a scanner's pings passed unjudged behind one flood of pings."""
    _pings(lab, ATTACKER[family], 3000)
    wait_for(lambda: sum(_counts(lab).values()) >= 2500, "most have arrived")
    counts = _counts(lab)
    assert 200 <= counts["judged"] <= 1000  # 100 a second after the burst of 200
    _pings(lab, BYSTANDER[family], 1)
    wait_for(lambda: _counts(lab)["judged"] > counts["judged"], "another source is judged")


def test_a_flood_of_icmp_from_many_sources_leaves_sctp_its_limit(lab: Lab, daemon: Sentry) -> None:
    for number in range(30):
        _pings(lab, f"198.18.0.{100 + number}", 190)
    wait_for(lambda: _counts(lab).get("unjudged"), "the limit of ICMP is used up")
    counts = _counts(lab)
    init = struct.pack("!HHII", 40000, 7001, 0, 0) + b"\x01\0\0\x14" + bytes(16)
    lab.wire.send(ip_frame(lab.ether, BYSTANDER[4], VICTIM[4], socket.IPPROTO_SCTP, init))
    wait_for(lambda: _counts(lab)["judged"] > counts["judged"], "SCTP is judged")
