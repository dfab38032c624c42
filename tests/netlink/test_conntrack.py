"""The number of flows that connection tracking knows, its limit, and its flush."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from sentryfw.netlink import conntrack
from sentryfw.netlink.conntrack import ConntrackCounter, FlushDetector
from sentryfw.tools.drill.namespace import Namespace
from support.conntrack import flush
from support.headers import header_numbers, numbers_of
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

OWN_FLOWS = 2
"""One of each family."""
TRACKED = "table ip t { chain c { type filter hook output priority 0; ct state new counter; }; }"


def test_flows_are_counted_and_gone_after_a_flush(namespace: Namespace) -> None:
    namespace.ip("link", "set", "lo", "up")
    namespace.run("nft", TRACKED)
    with closing(namespace.call(ConntrackCounter)) as counter:
        assert _count(counter) == 0
        with namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            for port in range(5000, 5020):
                sender.sendto(b"?", ("127.0.0.1", port))
        wait_for(lambda: _count(counter) == 20, "20 flows")
        namespace.call(flush)
        assert _count(counter) == 0


def test_the_limit_is_the_sysctl_s(namespace: Namespace) -> None:
    limit = namespace.call(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text)
    with closing(namespace.call(ConntrackCounter)) as counter:
        found = counter.read()
    assert found is not None
    assert found.limit == int(limit)


def test_a_flush_is_found_once_and_expiry_is_not(namespace: Namespace) -> None:
    namespace.ip("link", "set", "lo", "up")
    namespace.run("nft", TRACKED)
    namespace.run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1")
    with (
        closing(namespace.call(FlushDetector)) as detector,
        closing(namespace.call(ConntrackCounter)) as counter,
    ):
        assert [detector.was_flushed(), detector.was_flushed()] == [True, False]
        with namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            for port in range(5000, 5020):
                sender.sendto(b"?", ("127.0.0.1", port))
        assert _count(counter) == 20 + OWN_FLOWS
        wait_for(lambda: _count(counter) == OWN_FLOWS, "they expire and are collected", 180)
        assert not detector.was_flushed()
        namespace.call(flush)
        assert [detector.was_flushed(), detector.was_flushed()] == [True, False]
        detector.remove()
        assert _count(counter) == 0
        detector.remove()


def _count(counter: ConntrackCounter) -> int | None:
    found = counter.read()
    return None if found is None else found.tracked


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(conntrack, r"NFNL_|IPCTNL_|CTA_|IPS_")
    headers = (
        "linux/netfilter/nfnetlink.h", "linux/netfilter/nfnetlink_conntrack.h",
        "linux/netfilter/nf_conntrack_common.h",
    )  # fmt: skip
    assert len(numbers) == 20
    assert header_numbers(numbers, headers, tmp_path) == numbers
