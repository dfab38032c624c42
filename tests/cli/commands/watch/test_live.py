"""watch in a terminal of its own: what it shows, what keys do, how it ends."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from support.box import Box, environment
from support.screen import COLOUR, Screen
from support.waiting import wait_for

pytestmark = pytest.mark.netns

SCANNER = "203.0.113.7"


def watch(box: Box, size: tuple[int, int] = (80, 24), **env: str) -> Screen:
    return Screen(box.namespace, box.launch("-c", box.config, "watch"), environment(env), size)


@pytest.fixture
def running(installed: Box) -> Iterator[Box]:
    daemon = installed.start_daemon()
    installed.sentryfw("block", SCANNER)
    yield installed
    daemon.terminate()
    daemon.wait()


def test_a_block_counts_down_and_q_leaves_the_terminal_as_it_was(running: Box) -> None:
    with watch(running) as screen:
        screen.wait(f"{SCANNER}              59m")
        [first] = [line for line in screen.frames()[-1] if SCANNER in line]
        wait_for(lambda: not screen.shows(first), "it counts down", 5)
        assert screen.shows("daemon running")
        assert screen.shows("of 16,384 waiting   ok")
        screen.type("q")
        assert screen.end() == 0


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize(
    ("end", "code"),
    [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_however_it_ends_the_terminal_is_restored(
    running: Box, end: str | signal.Signals, code: int
) -> None:
    with watch(running) as screen:
        screen.wait(SCANNER)
        screen.type("\x1a")  # Ctrl-Z does not leave a broken screen behind
        if isinstance(end, str):
            screen.type(end)
        else:
            screen.process.send_signal(end)
        assert screen.end() == code
        assert "Traceback" not in screen.raw


def test_keys_unblock_allow_and_explain(running: Box) -> None:
    running.sentryfw("block", "203.0.113.8")
    with watch(running) as screen:
        screen.wait(SCANNER)
        screen.type("\x1b[B")
        screen.wait("> 203.0.113.8")
        screen.type("e")
        screen.wait("203.0.113.8: blocked: blocked by hand")
        screen.type("\x1b")
        screen.wait("BLOCKED, newest first")
        screen.type("u")
        screen.wait("unblock 203.0.113.8? y/n")
        screen.type("y")
        screen.wait("unblocked 203.0.113.8")
        assert "203.0.113.8" not in running.elements("block4")
        screen.wait("BLOCKED, newest first (1 of 1)")
        screen.type("ja")
        screen.wait(f"never block {SCANNER}? y/n")
        screen.type("y")
        screen.wait(f"allowed {SCANNER}/32")
        screen.wait("BLOCKED, newest first (none)")
        assert SCANNER not in running.elements("block4")
        screen.type("q")
        assert screen.end() == 0
    listed = json.loads(running.sentryfw("allow", "list", "--json").stdout)
    assert [row["network"] for row in listed] == [f"{SCANNER}/32"]


def test_it_follows_the_size_of_the_terminal(running: Box) -> None:
    with watch(running, COLUMNS="200", LINES="70") as screen:
        screen.wait(SCANNER)
        for columns, lines in ((40, 12), (120, 50), (80, 24)):
            screen.resize(columns, lines)
            wait_for(
                lambda c=columns, n=lines: (
                    len(screen.frames()[-1]) == n and {len(t) for t in screen.frames()[-1]} == {c}
                ),
                f"{columns} x {lines}",
                5,
            )  # fmt: skip
            assert "SentryFW" in screen.frames()[-1][0]
        screen.type("q")
        assert screen.end() == 0


def test_without_colour_nothing_is_lost(running: Box) -> None:
    with watch(running, NO_COLOR="1") as screen:
        screen.wait(SCANNER)
        screen.type("j")
        screen.wait(f"> {SCANNER}")
        screen.type("q")
        assert screen.end() == 0
        assert not COLOUR.search(screen.raw)


def test_a_failure_and_its_end_are_shown(installed: Box) -> None:
    installed.sentryfw("block", SCANNER)
    with watch(installed) as screen:
        screen.wait("daemon NOT RUNNING")
        screen.wait(SCANNER)
        installed.nft("delete table inet sentryfw")
        screen.wait("SentryFW is not installed here")
        installed.sentryfw("install", "--no-service")
        screen.wait("BLOCKED, newest first (none)")
        daemon = installed.start_daemon()
        screen.wait("daemon running")
        screen.wait(SCANNER)  # the ledger had it
        daemon.kill()
        daemon.wait()
        screen.wait("daemon NOT RUNNING")
        screen.type("q")
        assert screen.end() == 0


def test_without_a_terminal_the_error_names_the_alternatives(installed: Box) -> None:
    done = installed.sentryfw("watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert "--once" in done.stderr


def once(box: Box) -> tuple[int, dict[str, Any]]:
    done = box.sentryfw("watch", "--once", "--json")
    return done.returncode, json.loads(done.stdout)


def test_one_frame_is_printed_without_a_terminal(running: Box) -> None:
    done = running.sentryfw("watch", "--once")
    assert done.returncode == 0, done.stderr
    assert SCANNER in done.stdout
    assert "\x1b" not in done.stdout
    code, view = once(running)
    assert (code, [item["address"] for item in view["blocks"]]) == (0, [SCANNER])
    assert view["rates"]["judged"] == 0


def test_one_frame_leaves_the_prompt_its_line_of_the_terminal(running: Box) -> None:
    command = running.launch("-c", running.config, "watch", "--once")
    with Screen(running.namespace, command, environment({}), (80, 6)) as screen:
        assert screen.process.wait(20) == 0
        wait_for(lambda: "queue " in screen.raw, "the frame")
        assert screen.raw.startswith("SentryFW")
        assert screen.raw.count("\n") == 5


def test_the_exit_code_of_one_frame_is_that_of_status(box: Box) -> None:
    assert once(box)[0] == 5
    box.sentryfw("install", "--no-service")
    assert once(box)[0] == 3


def test_a_broken_ledger_is_reported_and_blocks_are_shown(running: Box) -> None:
    ledger = running.settings.paths.ledger
    running.sentryfw("unblock", SCANNER)
    daemon_ledger = ledger.read_bytes()
    assert daemon_ledger
    running.nft(f"add element inet sentryfw block4 {{ {SCANNER} timeout 1h }}")
    ledger.rename(ledger.with_suffix(".away"))
    ledger.write_bytes(b"no database" * 1000)
    code, view = once(running)
    assert code == 0
    assert [item["address"] for item in view["blocks"]] == [SCANNER]
    assert "the ledger cannot be read" in view["warnings"][0]
