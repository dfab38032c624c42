"""The external command: its words, its timeout, and the report of its end."""

import os
import threading
import time
from pathlib import Path

import pytest

from sentryfw.config.respond import Command
from sentryfw.errors import ReactionFailed
from sentryfw.respond.command import CommandRunner, fill
from support.processes import Process, below
from support.reactions import INCIDENT, REFUSED, SIX
from support.waiting import wait_for


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a script that writes its words and its environment."""
    path = tmp_path / "script"
    path.write_text(
        f'#!/bin/sh\nfor word in "$@"; do printf "[%s]" "$word"; done > {tmp_path}/words\n'
        f"env > {tmp_path}/environment\n"
    )
    path.chmod(0o755)
    return path


def _words(script: Path) -> str:
    return (script.parent / "words").read_text()


def test_words_are_filled_and_nothing_splits_them(script: Path) -> None:
    words = ("{address}", "{port} {mode}", "{kinds}", "{reason}", "$(id)", "{{x}}", "")
    assert "status 0" in CommandRunner(Command(argv=(str(script), *words)))(INCIDENT)
    assert _words(script) == (
        "[198.18.0.2][111 atcp][syn,udp][3 distinct targets within the window][$(id)][{x}][]"
    )


def test_a_legacy_string_is_split_and_never_run_by_a_shell(script: Path) -> None:
    legacy = f"{script} $TARGET$ 'port $PORT$' \"$MODE$\" x$TARGET$x {{print}} $HOME `id`"
    settings = Command.model_validate({"argv": legacy})
    CommandRunner(settings)(SIX)
    assert _words(script) == (
        "[2001:2:0:1::2][port 111][atcp][x2001:2:0:1::2x][{print}][$HOME][`id`]"
    )


def test_the_environment_is_ours_alone(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    CommandRunner(Command(argv=(str(script),)))(SIX)
    lines = (script.parent / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    assert environment["SENTRYFW_ADDRESS"] == "2001:2:0:1::/64"
    assert environment["SENTRYFW_IP"] == "2001:2:0:1::2"
    assert environment["SENTRYFW_TIMEOUT"] == "3600"
    assert environment["SENTRYFW_ACTION"] == "blocked"
    assert "SECRET_OF_THE_DAEMON" not in environment


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("/nonexistent/program",), "/nonexistent/program: No such file or directory"),
        (("/etc/passwd",), "/etc/passwd: Permission denied"),
        (("/bin/sh", "-c", "exit 3"), "/bin/sh: ended with status 3"),
        (("/bin/sh", "-c", "echo why >&2; exit 127"), "/bin/sh: ended with status 127: why"),
        (("/bin/sh", "-c", "kill -9 $$"), "/bin/sh: ended with signal 9"),
    ],
    ids=["missing", "not-executable", "status", "complaint", "signal"],
)
def test_a_failing_command_is_reported_as_failed(argv: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ReactionFailed) as raised:
        CommandRunner(Command(argv=argv))(INCIDENT)
    assert str(raised.value) == reason


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; trap '' TERM; sleep 60"
    begin = time.monotonic()
    with pytest.raises(ReactionFailed, match=r"killed, it took longer than 0\.5s"):
        CommandRunner(Command(argv=("/bin/sh", "-c", code), timeout=0.5))(INCIDENT)
    assert time.monotonic() - begin < 5
    for pid in map(int, pids.read_text().split()):
        wait_for(lambda: not _is_alive(pid), f"{pid} is gone")  # noqa: B023


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_background_process_does_not_delay_the_end_of_the_command() -> None:
    begin = time.monotonic()
    command = Command(argv=("/bin/sh", "-c", "sleep 5 & exit 0"), timeout=5)
    assert CommandRunner(command)(INCIDENT).endswith("status 0")
    assert time.monotonic() - begin < 4


def test_a_flood_on_stderr_neither_blocks_the_command_nor_is_kept() -> None:
    code = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1"
    with pytest.raises(ReactionFailed) as raised:
        CommandRunner(Command(argv=("/bin/sh", "-c", code), timeout=20))(INCIDENT)
    assert str(raised.value).endswith("xend")
    assert len(str(raised.value)) < 300


def test_the_end_of_the_daemon_kills_running_commands() -> None:
    seconds = "60.1"  # no other test's
    runner = CommandRunner(Command(argv=("/bin/sleep", seconds), timeout=60))
    failures: list[ReactionFailed] = []

    def run() -> None:
        try:
            runner(INCIDENT)
        except ReactionFailed as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def sleepers() -> list[Process]:
        return [child for child in below(os.getpid()) if child.words[1:2] == [seconds]]

    wait_for(sleepers, "it runs")
    runner.kill()
    thread.join(5)
    assert not thread.is_alive()
    assert [str(error) for error in failures] == ["/bin/sleep: ended with signal 9"]
    assert not sleepers()
    with pytest.raises(ReactionFailed, match="not run, the daemon ended"):
        runner(INCIDENT)


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("{ip}", "198.18.0.2"),
        ("{{ip}}", "{ip}"),
        ("a{port}b{port}", "a111b111"),
        ("{action}", "refused"),
        ("{host}", ""),
        ("{ ip }", "{ ip }"),
        ("}{", "}{"),
    ],
)
def test_only_placeholders_are_replaced(word: str, filled: str) -> None:
    assert fill(word, REFUSED.fields()) == filled
