"""Where something is full, or hangs: counted, said, and no listed service loses a packet.

A bystander opens connections to the listed port all the while; each has to be answered as fast
as without the overload.
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import sentryfw
from sentryfw.engine.model import Source
from sentryfw.netfilter.ruleset import directory
from support.box import BIN
from support.lab import ATTACKER, BYSTANDER, UNLISTED, Lab, Sentry, drain, waiting_packets
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
SMALL_QUEUE: Final = "[queue]\nmax_len = 64\n"
AT_ONCE: Final = 0.9
"""Seconds; a SYN that is lost is sent again after one."""


def _overload_events(sentry: Sentry, what: str) -> list[dict[str, Any]]:
    """Events that say that this was full."""
    events = (event["sentryfw"] for event in sentry.events())
    return [e for e in events if e.get("event") == "overload" and e["what"] == what]


def _assert_listed_is_served(lab: Lab, count: int = 20) -> None:
    for _ in range(count):
        started = time.monotonic()
        lab.open(BYSTANDER[4]).close()
        assert time.monotonic() - started < AT_ONCE


def _total(sentry: Sentry, what: str) -> int:
    return int(sentry.status()["overload"][what])


@contextmanager
def _hung(sentry: Sentry) -> Any:
    """The engine hangs; afterwards it goes on."""
    sentry.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{sentry.process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it hangs")
    try:
        yield
    finally:
        sentry.process.send_signal(signal.SIGCONT)


def _kernel_counts(lab: Lab) -> tuple[int, int]:
    """Dropped because the queue, and because the socket's buffer was full: the kernel's count."""
    text = lab.victim.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    [fields] = [line.split() for line in text.splitlines()]
    return int(fields[5]), int(fields[6])


def test_a_full_queue_is_counted_and_said(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(SMALL_QUEUE)
    lab.listen()
    with _hung(daemon):
        lab.flood(1000, UNLISTED[0])
        assert waiting_packets(lab.victim) == 64
        _assert_listed_is_served(lab)
    drain(daemon)
    dropped, _ = _kernel_counts(lab)
    assert dropped == 936
    wait_for(lambda: _total(daemon, "queue full") == dropped, "the daemon knows it, too")
    [event] = wait_for(lambda: _overload_events(daemon, "queue full"), "it is said")
    assert event["lost"] == event["total"] == dropped
    assert "overload: what queue full" in daemon.log()


def test_a_full_socket_buffer_is_counted_and_said(lab: Lab, start_daemon: StartDaemon) -> None:
    """ENOBUFS: the queue has room for a million packets, the buffer of 16 MiB has not."""
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
    wait_for(lambda: daemon.status()["queue"]["overruns"], "the daemon was told")
    lab.probe(ATTACKER[4], UNLISTED[0])  # the next number shows the gap
    wait_for(lambda: _total(daemon, "socket buffer full") >= lost, "counted")
    assert _total(daemon, "socket buffer full") == _kernel_counts(lab)[1]
    assert _total(daemon, "queue full") == 0
    assert wait_for(lambda: _overload_events(daemon, "socket buffer full"), "it is said")


def test_a_hung_engine_is_counted_and_said_and_touches_no_listed_service(
    lab: Lab, daemon: Sentry
) -> None:
    lab.listen()
    with _hung(daemon):
        lab.probe(ATTACKER[4], *UNLISTED)
        stopped = time.monotonic()
        while time.monotonic() - stopped < 4:
            _assert_listed_is_served(lab, 5)
            time.sleep(0.1)  # the listener accepts nobody, and has room for 4096
        assert not lab.is_blocked(ATTACKER[4])
        assert waiting_packets(lab.victim) == len(UNLISTED)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"
    notes = wait_for(
        lambda: [e["sentryfw"] for e in daemon.events() if e["sentryfw"].get("event") == "stalled"],
        "the stall is said",
    )
    assert notes[0]["seconds"] >= 3
    assert _total(daemon, "stalled") == 1


def test_a_hung_engine_holds_a_suspect_only_as_long_as_it_is_one(lab: Lab, daemon: Sentry) -> None:
    """Who touched one unlisted port waits for the verdict on that: five seconds, and is served."""
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
    """The words that start a daemon of a copy of the package, in which some files differ."""
    root = home / "copy"
    package = Path(sentryfw.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, root / "sentryfw", ignore=ignore)
    shutil.copytree(directory(), root / "rulesets")
    for name, (old, new) in changes.items():
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))
    return ["env", f"PYTHONPATH={root}", sys.executable, "-P", BIN / "sentryfwd"]


def test_a_full_block_set_is_counted_and_said(lab: Lab, make_daemon: StartDaemon) -> None:
    """ENFILE, from a set for four blocks: the daemon's own cap is above what the set holds."""
    daemon = make_daemon("")
    small = {
        "rulesets/sets.nft": ("size 1048576\n\t\tflags timeout\n", "size 4\n\t\tflags timeout\n")
    }
    daemon.command = [*_patched(daemon.home, small), *daemon.command[1:]]
    daemon.start()
    lab.listen()
    lab.table.block([(Source(bytes((203, 0, 113, n))), 600.0) for n in range(4)])
    lab.probe(ATTACKER[4], *UNLISTED, 7004, 7005)
    wait_for(lambda: _total(daemon, "block set full") >= 1, "counted")
    [event] = wait_for(lambda: _overload_events(daemon, "block set full"), "it is said")
    assert event["total"] >= 1
    assert not lab.is_blocked(ATTACKER[4])
    assert lab.answers(ATTACKER[4])
    _assert_listed_is_served(lab)
    failed = daemon.status()["engine"]["blocks failed"]
    assert failed == _total(daemon, "block set full")
    assert daemon.log().count("block set full") == 1
    lab.table.unblock(Source(bytes((203, 0, 113, 0))))
    lab.probe(ATTACKER[4], *range(7100, 7106))
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked, now that there is room")


def test_a_full_source_table_is_counted_and_said(lab: Lab, make_daemon: StartDaemon) -> None:
    """Of 200 forged sources the engine has places for 64."""
    daemon = make_daemon("")
    small = {
        "sentryfw/engine/engine.py": ("max_sources: int = 65536", "max_sources: int = 64"),
    }
    daemon.command = [*_patched(daemon.home, small), *daemon.command[1:]]
    daemon.start()
    lab.listen()
    lab.flood(200, UNLISTED[0])
    drain(daemon)
    wait_for(lambda: _total(daemon, "source table full") >= 120, "counted")
    assert wait_for(lambda: _overload_events(daemon, "source table full"), "it is said")
    _assert_listed_is_served(lab)
    lab.probe(ATTACKER[4], *UNLISTED, 7004)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"


def test_status_tells_what_was_lost(lab: Lab, daemon: Sentry) -> None:
    done = lab.victim.run(BIN / "sentryfw", "-c", daemon.config, "status", "--json")
    status = json.loads(done.stdout)
    assert set(status["overload"]) >= {"queue full", "socket buffer full", "stalled"}
    assert set(status["overload"].values()) == {0}
    assert {"waiting", "dropped", "user_dropped"} <= set(status["queue"]["kernel"])
