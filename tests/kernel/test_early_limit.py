"""In a flood new sources are limited before connection tracking, and all others are served."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from support.frames import SYN, tcp_frame
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.serial]

StartDaemon = Callable[[str], Sentry]
FLOOD_PORT: Final = 7
PUBLISHED: Final = 8443


@contextlib.contextmanager
def _flood(lab: Lab, family: int) -> Iterator[None]:
    """Send SYNs of new sources to an unlisted port, far more than the limit in each second."""
    ended = threading.Event()

    def send() -> None:
        first = 0
        while not ended.wait(0.1):
            lab.wire.send(*(_syn(lab, family, first + n) for n in range(1000)))
            first += 1000

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _syn(lab: Lab, family: int, number: int) -> bytes:
    high, low = number >> 16 & 0xFF, number & 0xFFFF
    source = (
        f"10.{high}.{low >> 8}.{low & 0xFF}" if family == 4 else f"2001:db8:{high:x}:{low:x}::9"
    )
    return tcp_frame(lab.ether, source, VICTIM[family], 40000, FLOOD_PORT, flags=SYN)


def _is_early(lab: Lab) -> bool:
    return bool(lab.elements("flooded"))


def _is_refused(lab: Lab, source: str, port: int) -> bool:
    """Return whether the kernel resets a connection of this source at once."""
    try:
        lab.open(source, port, timeout=5.0)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    raise AssertionError(f"port {port} is open")


@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_is_limited_early_and_all_others_are_served(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon("[watch]\nlisted_tcp = [8080]\n")
    lab.listen(family=family)
    assert not _is_early(lab)
    with _flood(lab, family):
        wait_for(lambda: _is_early(lab), "the limit is moved")
        for _ in range(5):
            assert lab.answers(BYSTANDER[family])
        for port in UNLISTED:  # each probe but the first comes from a source of the last second
            lab.probe(ATTACKER[family], port)
            lab.probe(ATTACKER[family], port)
        assert daemon.alert(ATTACKER[family])["alert"]["action"] == "blocked"
        assert _is_early(lab)
    wait_for(lambda: not _is_early(lab), "it is back some seconds after the flood", 20)
    assert "a flood is limited behind" not in daemon.log()


@pytest.mark.parametrize("family", [4, 6])
def test_what_has_no_socket_and_is_listed_by_hand_is_not_limited(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon("[watch]\nlisted_tcp = [8080]\n")
    with _flood(lab, family):
        wait_for(lambda: _is_early(lab), "the limit is moved")
        assert all(_is_refused(lab, BYSTANDER[family], 8080) for _ in range(5))
        assert _is_early(lab)
        # Its counterpart: the port beside it is unlisted, and a new source has no answer there.
        assert not _is_refused(lab, BYSTANDER[family], 8081)


def test_a_published_port_is_served_in_a_flood(lab: Lab, start_daemon: StartDaemon) -> None:
    """Without a socket on the port that is published, the first hook cannot know it."""
    daemon = start_daemon("")
    lab.listen(PUBLISHED + 1)
    lab.nft("add", "table", "ip", "published")
    lab.nft(
        "add", "chain", "ip", "published", "pre",
        "{ type nat hook prerouting priority dstnat; }",
    )  # fmt: skip
    lab.nft(
        "add", "rule", "ip", "published", "pre", "tcp", "dport", str(PUBLISHED),
        "redirect", "to", f":{PUBLISHED + 1}",
    )  # fmt: skip
    with _flood(lab, 4):
        wait_for(lambda: "table published may redirect" in daemon.log(), "it is noticed")
        for _ in range(5):
            assert lab.answers(BYSTANDER[4], PUBLISHED)
        assert not _is_early(lab)
