"""Zero leak: after the probe that triggers, nothing of that source is answered.

Each source sends SYNs to three unlisted ports and to one listed port, back to back: the fourth
is on its way before the third is judged. The listed port must answer none of them.
"""

import os
import signal
import time
from typing import Final

import pytest

from support.frames import tcp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, drain, synacks
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

BURST: Final = 2000
SPACED: Final = 300
GAP: Final = 0.002
"""Seconds between two sources, in the second run: long enough for a verdict to fall between."""
PORTS: Final = (*UNLISTED, LISTED)


@pytest.fixture
def routed(lab: Lab) -> Lab:
    """The victim reaches every source through the attacker's end, without asking for it."""
    mac = lab.ether[6:].hex(":")
    for network, gateway in (("198.19.0.0/16", ATTACKER[4]), ("2001:2:8000::/33", ATTACKER[6])):
        lab.victim.ip(
            "neigh", "replace", gateway, "lladdr", mac, "dev", "veth0", "nud", "permanent"
        )
        lab.victim.ip("route", "add", network, "via", gateway, "dev", "veth0")
    for name in ("all", "veth0"):
        lab.victim.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
    return lab


def _sources(family: int, count: int) -> list[str]:
    """Addresses, each a source of its own: IPv6 sources differ within the /64."""
    if family == 4:
        return [f"198.19.{n >> 8}.{n & 0xFF}" for n in range(1, count + 1)]
    return [f"2001:2:8000:{n:x}::7" for n in range(1, count + 1)]


def _bursts(lab: Lab, sources: list[str], family: int) -> list[list[bytes]]:
    """Yield the four SYNs of each source."""
    return [
        [tcp_frame(lab.ether, source, VICTIM[family], 40000, port) for port in PORTS]
        for source in sources
    ]


def _answered(lab: Lab, daemon: Sentry, clean: str) -> list[str]:
    """Return the sources that the listed port answered, after all packets were judged.

    The clean source is sent last and must be answered: it proves that answers are visible.
    """
    drain(daemon)
    family = 4 if "." in clean else 6
    lab.wire.send(tcp_frame(lab.ether, clean, VICTIM[family], 40001, LISTED))
    seen: list[str] = []

    def clean_is_answered() -> bool:
        seen.extend(synacks(lab.wire.received(), LISTED))
        return clean in seen

    wait_for(clean_is_answered, "the clean source is answered")
    assert lab.wire.lost() == 0
    return [address for address in seen if address != clean]


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_burst_of_two_thousand_scanners_opens_nothing(
    routed: Lab, daemon: Sentry, family: int
) -> None:
    routed.listen(LISTED, family)
    sources = _sources(family, BURST)
    frames = [frame for burst in _bursts(routed, sources, family) for frame in burst]
    routed.wire.send(*frames)
    assert _answered(routed, daemon, BYSTANDER[family]) == []
    assert len(list(routed.table.sets.blocked_sources())) == BURST
    assert routed.count("held") + routed.count("blocked_early") == BURST


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_scanners_one_after_the_other_open_nothing(
    routed: Lab, daemon: Sentry, family: int
) -> None:
    routed.listen(LISTED, family)
    for burst in _bursts(routed, _sources(family, SPACED), family):
        routed.wire.send(*burst)
        time.sleep(GAP)  # part of the test, not a wait
    assert _answered(routed, daemon, BYSTANDER[family]) == []
    assert len(list(routed.table.sets.blocked_sources())) == SPACED


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_without_the_suspect_rules_the_same_burst_leaks(
    routed: Lab, daemon: Sentry, family: int
) -> None:
    """The counterpart: the test above would notice a leak. The daemon is stopped during it, or it
    would restore the rules within milliseconds."""
    routed.listen(LISTED, family)
    sources = _sources(family, SPACED)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    routed.nft("flush chain inet sentryfw suspect")
    routed.wire.send(*(frame for burst in _bursts(routed, sources, family) for frame in burst))
    os.kill(daemon.process.pid, signal.SIGCONT)
    answered = _answered(routed, daemon, BYSTANDER[family])
    assert len(list(routed.table.sets.blocked_sources())) == SPACED
    assert set(answered) <= set(sources)
    assert len(set(answered)) > SPACED / 2
