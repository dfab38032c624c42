"""Closed, full and foreign standard streams: an exit code and at most a sentence."""

import subprocess
import sys

import pytest

from support.box import Box
from support.host import environment

CANNOT = "sentryfw: standard output cannot be written: "
OUTPUTS = [
    pytest.param(">/dev/full", f"{CANNOT}No space left on device\n", id="full"),
    pytest.param(">&-", f"{CANNOT}Bad file descriptor\n", id="closed"),
    pytest.param("| true", "", id="closed pipe"),
    pytest.param(">/dev/full 2>/dev/full", "", id="both full"),
    pytest.param(">&- 2>&- <&-", "", id="all closed"),
]


def shell(box: Box, words: tuple[str, ...], redirection: str) -> tuple[int, str]:
    """Run the command line with a redirection; return its exit code, and what stderr got."""
    command = [str(word) for word in box.launch("-c", box.config, *words)]
    code = f'"$@" {redirection}'
    if redirection.startswith("|"):
        code = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    done = box.namespace.run("bash", "-c", code, "bash", *command, env=environment())
    return done.returncode, done.stderr


@pytest.mark.netns
@pytest.mark.parametrize(
    "words",
    [("list",), ("status", "--json"), ("report",), ("--help",), ("metrics",), ("allow", "list")],
    ids=" ".join,
)
@pytest.mark.parametrize(("redirection", "said"), OUTPUTS)
def test_an_output_that_cannot_be_written_ends_in_1(
    installed: Box, words: tuple[str, ...], redirection: str, said: str
) -> None:
    installed.sentryfw("allow", "add", "203.0.113.7")
    code, error = shell(installed, words, redirection)
    assert code == 1, error
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    assert error.endswith(said)


@pytest.mark.netns
def test_a_change_without_an_output_is_made(installed: Box) -> None:
    assert shell(installed, ("block", "203.0.113.7"), ">&-")[0] == 1
    assert "203.0.113.7" in installed.elements("block4")
    assert shell(installed, ("unblock", "203.0.113.7"), "2>&-") == (0, "")
    assert installed.elements("block4") == {}


@pytest.mark.netns
def test_no_file_gets_the_descriptor_of_a_closed_stream(installed: Box) -> None:
    """SQLite would open the ledger as descriptor 1, and the output would be written into it."""
    shell(installed, ("block", "203.0.113.7"), ">&- 2>&- <&-")
    assert "blocked by hand" in installed.sentryfw("list").stdout
    for _ in range(3):
        shell(installed, ("list",), ">&- 2>&- <&-")
    assert "blocked by hand" in installed.sentryfw("list").stdout


@pytest.mark.netns
def test_a_character_that_the_encoding_lacks_is_replaced(installed: Box) -> None:
    installed.sentryfw("allow", "add", "203.0.113.7", "--comment", "B\u00fcro \u6f22")
    command = installed.launch("-c", installed.config, "allow", "list")
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True,
        env=environment({"PYTHONIOENCODING": "latin-1"}),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"B\xfcro ?" in done.stdout


def test_what_is_printed_whole_is_exit_code_0() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sentryfw", "--version"], check=False, capture_output=True,
        env=environment(), text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sentryfw ")
