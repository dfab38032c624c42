"""Overload: losses are counted and reported, and no listed service loses a packet.

During each overload a bystander opens connections to the listed port; each has to be answered as
fast as without it.
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

import sentryfw
from sentryfw.engine.model import Source
from sentryfw.netfilter.ruleset import directory
from support.box import BIN
from support.frames import SYN, tcp_frame
from support.lab import (
    ATTACKER,
    BYSTANDER,
    UNLISTED,
    VICTIM,
    Lab,
    Sentry,
    drain,
    waiting_packets,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.serial]

StartDaemon = Callable[[str], Sentry]
SMALL_QUEUE: Final = "[queue]\nmax_len = 64\n"
MAX_CONNECT_S: Final = 0.9
"""Less than the second after which a lost SYN is sent again."""


def _overload_events(sentry: Sentry, what: str) -> list[dict[str, Any]]:
    """Return the events that report this loss."""
    events = (event["sentryfw"] for event in sentry.events())
    return [e for e in events if e.get("event") == "overload" and e["what"] == what]


def _assert_listed_is_served(lab: Lab, count: int = 20) -> None:
    for _ in range(count):
        started = time.monotonic()
        lab.open(BYSTANDER[4]).close()
        assert time.monotonic() - started < MAX_CONNECT_S


def _total(sentry: Sentry, what: str) -> int:
    return int(sentry.status()["overload"][what])


@contextmanager
def _hung(sentry: Sentry) -> Any:
    """Stop the daemon while the context lasts."""
    sentry.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{sentry.process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it hangs")
    try:
        yield
    finally:
        sentry.process.send_signal(signal.SIGCONT)


def _kernel_counts(lab: Lab) -> tuple[int, int]:
    """Return the kernel's count of packets dropped by the full queue, and by the socket buffer."""
    text = lab.victim.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    [fields] = [line.split() for line in text.splitlines()]
    return int(fields[5]), int(fields[6])


def test_a_full_queue_is_counted_and_reported(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(SMALL_QUEUE)
    lab.listen()
    with _hung(daemon):
        lab.flood(1000, UNLISTED[0])
        assert waiting_packets(lab.victim) == 64
        _assert_listed_is_served(lab)
    drain(daemon)
    dropped, _ = _kernel_counts(lab)
    assert dropped == 936
    wait_for(lambda: _total(daemon, "queue full") == dropped, "the daemon counts them as well")
    [event] = wait_for(lambda: _overload_events(daemon, "queue full"), "it is reported")
    assert event["lost"] == event["total"] == dropped
    assert "overload: what queue full" in daemon.log()


def test_a_full_socket_buffer_is_counted_and_reported(lab: Lab, start_daemon: StartDaemon) -> None:
    """ENOBUFS: the queue has room for a million packets, the buffer of 16 MiB does not."""
    daemon = start_daemon("[queue]\nmax_len = 1048576\n")
    lab.listen()
    with _hung(daemon):
        lost = 0
        for _ in range(10):
            lab.flood(10_000, UNLISTED[0])
            _, lost = _kernel_counts(lab)
            if lost:
                break
        assert lost
        _assert_listed_is_served(lab)
    drain(daemon)
    wait_for(lambda: daemon.status()["queue"]["overruns"], "the daemon has read ENOBUFS")
    lab.probe(ATTACKER[4], UNLISTED[0])  # the next number shows the gap
    wait_for(lambda: _total(daemon, "socket buffer full") >= lost, "counted")
    assert _total(daemon, "socket buffer full") == _kernel_counts(lab)[1]
    assert _total(daemon, "queue full") == 0
    assert wait_for(lambda: _overload_events(daemon, "socket buffer full"), "it is reported")


def test_a_hung_engine_is_counted_and_reported_and_touches_no_listed_service(
    lab: Lab, daemon: Sentry
) -> None:
    lab.listen()
    with _hung(daemon):
        lab.probe(ATTACKER[4], *UNLISTED)
        stopped = time.monotonic()
        while time.monotonic() - stopped < 4:
            _assert_listed_is_served(lab, 5)
            time.sleep(0.1)  # the listener does not accept, and has room for 4096
        assert not lab.is_blocked(ATTACKER[4])
        assert waiting_packets(lab.victim) == len(UNLISTED)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"
    notes = wait_for(
        lambda: [e["sentryfw"] for e in daemon.events() if e["sentryfw"].get("event") == "stalled"],
        "the stall is reported",
    )
    assert notes[0]["seconds"] >= 3
    assert _total(daemon, "stalled") == 1


def test_a_hung_engine_holds_a_suspect_only_as_long_as_it_is_one(lab: Lab, daemon: Sentry) -> None:
    """A client that touched one unlisted port waits five seconds for a verdict, and is served."""
    lab.listen()
    with _hung(daemon):
        lab.probe(BYSTANDER[4], UNLISTED[0])
        wait_for(lambda: BYSTANDER[4] in lab.elements("suspect4"), "suspect")
        started = time.monotonic()
        lab.open(BYSTANDER[4], timeout=15).close()
        assert time.monotonic() - started < 10
    drain(daemon)
    assert not lab.is_blocked(BYSTANDER[4])


def _patched(home: Path, changes: dict[str, tuple[str, str]]) -> list[str | Path]:
    """Return the command of a daemon of a copy of the package, in which some files differ."""
    root = home / "copy"
    package = Path(sentryfw.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__", "*.so")  # a compiled module hides its source
    shutil.copytree(package, root / "sentryfw", ignore=ignore)
    shutil.copytree(directory(), root / "rulesets")
    for name, (old, new) in changes.items():
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))
    return ["env", f"PYTHONPATH={root}", sys.executable, "-P", BIN / "sentryfwd"]


def test_a_full_block_set_is_counted_and_reported(lab: Lab, make_daemon: StartDaemon) -> None:
    """ENFILE, from a set for four blocks: the daemon's own cap is above what the set holds."""
    daemon = make_daemon("")
    small = {
        "rulesets/sets.nft": ("size 1048576\n\t\tflags timeout\n", "size 4\n\t\tflags timeout\n")
    }
    daemon.command = [*_patched(daemon.home, small), *daemon.command[1:]]
    daemon.start()
    lab.listen()
    lab.table.sets.block([(Source(bytes((203, 0, 113, n))), 600.0) for n in range(4)])
    lab.probe(ATTACKER[4], *UNLISTED, 7004, 7005)
    wait_for(lambda: _total(daemon, "block set full") >= 1, "counted")
    [event] = wait_for(lambda: _overload_events(daemon, "block set full"), "it is reported")
    assert event["total"] >= 1
    assert not lab.is_blocked(ATTACKER[4])
    assert lab.answers(ATTACKER[4])
    _assert_listed_is_served(lab)
    failed = daemon.status()["engine"]["blocks failed"]
    assert failed == _total(daemon, "block set full")
    assert daemon.log().count("block set full") == 1
    lab.table.sets.unblock(Source(bytes((203, 0, 113, 0))))
    lab.probe(ATTACKER[4], *range(7100, 7106))
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked, now that there is room")


def test_a_full_source_table_is_counted_and_reported(lab: Lab, make_daemon: StartDaemon) -> None:
    """The engine has room for 34 of 200 forged sources."""
    daemon = make_daemon("")
    small = {
        "sentryfw/engine/table.py": ("MAX_SOURCES: Final = 65536", "MAX_SOURCES: Final = 2"),
    }
    daemon.command = [*_patched(daemon.home, small), *daemon.command[1:]]
    daemon.start()
    lab.listen()
    lab.flood(200, UNLISTED[0])
    drain(daemon)
    wait_for(lambda: _total(daemon, "source table full") >= 120, "counted")
    assert wait_for(lambda: _overload_events(daemon, "source table full"), "it is reported")
    _assert_listed_is_served(lab)
    lab.probe(ATTACKER[4], *UNLISTED, 7004)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"


def _forged(lab: Lab, first: int, count: int) -> None:
    """Send a scan in the name of each of these sources, from all over IPv4."""
    for number in range(first, first + count):
        lab.probe(f"{11 + number % 200}.{number >> 8 & 0xFF}.{number & 0xFF}.9", *UNLISTED)


def test_a_cap_full_of_forged_blocks_is_reported_and_gives_way(
    lab: Lab, make_daemon: StartDaemon
) -> None:
    """A block that drops nothing gives way to a scanner's; that of a scanner that goes on stays."""
    daemon = make_daemon("[block]\nmax_elements = 30\n")
    fast = {
        "sentryfw/daemon/block_room.py": ("IDLE_S: Final = 90.0", "IDLE_S: Final = 3.0"),
    }
    daemon.command = [*_patched(daemon.home, fast), *daemon.command[1:]]
    daemon.start()
    lab.listen()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    _forged(lab, 0, 40)
    drain(daemon)
    wait_for(lambda: _total(daemon, "block cap") == 11, "counted")
    assert wait_for(lambda: _overload_events(daemon, "block cap"), "it is reported")
    _assert_listed_is_served(lab)

    def is_blocked(source: str) -> bool:
        lab.probe(ATTACKER[4], UNLISTED[0])  # the blocked scanner goes on
        lab.probe(source, *UNLISTED)
        return lab.is_blocked(source)

    wait_for(lambda: is_blocked(BYSTANDER[4]), "a block gives way", 60)
    assert lab.is_blocked(ATTACKER[4])
    assert len(list(lab.table.sets.blocked_sources())) == 30
    status = daemon.status()
    assert status["engine"]["displaced"] == 1
    wait_for(lambda: daemon.status()["blocked"] == 30, "it is recorded as unblocked")
    lab.probe(ATTACKER[6], *UNLISTED)
    assert daemon.alert(ATTACKER[6])["alert"]["action"] == "blocked"


def test_a_flood_from_everywhere_hides_no_slow_scanner_and_no_client(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    """1,000 forged SYNs a second from all over IPv4 and a /32 of IPv6, below flood mode."""
    daemon = start_daemon('[detect]\nwindow = "1s"\nslow_trigger = 6\n')
    lab.listen()
    random = Random(7)
    sent = 0

    def step() -> int:
        nonlocal sent
        for _ in range(500):
            four = str(IPv4Address(random.randrange(0x0B000000, 0xC6000000)))
            six = str(IPv6Address((0x2A010000 << 96) | random.getrandbits(96)))
            port = 7000 + random.randrange(1000)
            lab.wire.send(
                tcp_frame(lab.ether, four, VICTIM[4], 40000, port, SYN),
                tcp_frame(lab.ether, six, VICTIM[6], 40000, port, SYN),
            )
        sent += 1
        return sent

    slowly = 0
    started = time.monotonic()
    while not lab.is_blocked(ATTACKER[4]):
        step()
        if time.monotonic() - started >= slowly * 1.5:
            assert slowly < 6, "it is not stopped at its slow trigger"
            lab.probe(ATTACKER[4], 7100 + slowly)
            slowly += 1
            drain(daemon)
    assert slowly <= 6
    client = lab.open(BYSTANDER[4])
    client.sendall(b"hello")
    step()
    wait_for(lambda: lab.elements("partner4") == {BYSTANDER[4]}, "a real client is a partner")
    assert lab.is_blocked(ATTACKER[4])


def test_status_shows_the_losses(lab: Lab, daemon: Sentry) -> None:
    done = lab.victim.run(BIN / "sentryfw", "-c", daemon.config, "status", "--json")
    status = json.loads(done.stdout)
    assert set(status["overload"]) >= {"queue full", "socket buffer full", "stalled"}
    assert set(status["overload"].values()) == {0}
    assert {"waiting", "dropped", "user_dropped"} <= set(status["queue"]["kernel"])
