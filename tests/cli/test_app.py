"""What every command shares: options, the configuration, exit codes, a pipe that closes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfw import __version__
from support.box import BIN, NOBODY, Box, environment

pytestmark = pytest.mark.netns

FAULTY = """
[detect]
trigger = 0
window = "soon"
trigerr = 3
[never_block]
addresses = ["nowhere"]
"""
FAULT_KEYS = ("detect.trigger:", "detect.window:", "detect.trigerr:", "never_block.addresses.0:")

NEED_ROOT = (
    ("list",), ("list", "--json"), ("status",), ("install", "--no-service"),
    ("install", "--dry-run"), ("uninstall",), ("block", "203.0.113.7"),
    ("block", "203.0.113.0/24"), ("unblock", "203.0.113.7"), ("unblock", "--all"), ("doctor",),
    ("run",), ("drill",), ("drill", "--forge"),
)  # fmt: skip


NOT_AT_START = {
    "asyncio", "concurrent.futures", "email", "importlib.metadata", "rich.table", "scapy",
    "sentryfw.daemon", "sentryfw.netfilter.host", "sentryfw.netfilter.libnftables",
    "sentryfw.respond",
}  # fmt: skip
"""Tens of milliseconds of every `status`, `list` and `unblock`, which need none of them."""


def number_of(box: Box, *words: str | Path, env: dict[str, str] | None = None) -> int:
    """The queue number in the configuration that a run of `status` took."""
    done = box.run(*words, env=env)
    assert done.returncode == 5, done.stderr
    return int(json.loads(done.stdout)["queue"]["number"])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param([BIN / "sentryfw"], "sentryfw", id="sentryfw"),
        pytest.param([sys.executable, "-m", "sentryfw"], "sentryfw", id="module"),
        pytest.param([BIN / "sentryfwd"], "sentryfwd", id="sentryfwd"),
    ],
)
def test_version_is_printed(box: Box, command: list[str | Path], name: str) -> None:
    done = box.namespace.run(*command, "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {__version__}\n"), done.stderr


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda path: ["-c", path, "status", "--json"], id="-c, command"),
        pytest.param(lambda path: ["status", "--json", "-c", path], id="command, -c"),
        pytest.param(lambda path: ["status", "-c", path, "--json"], id="in the middle"),
        pytest.param(lambda path: ["--config", path, "status", "--json"], id="--config, command"),
        pytest.param(lambda path: ["status", "--json", f"--config={path}"], id="command --config="),
    ],
)
def test_the_configuration_is_named_before_or_after_the_command(box: Box, place: object) -> None:
    box.configure("[queue]\nnumber = 6001")
    assert callable(place)
    assert number_of(box, *place(str(box.config))) == 6001


def test_the_configuration_is_named_by_the_environment(box: Box) -> None:
    box.configure("[queue]\nnumber = 6002")
    env = {"SENTRYFW_CONFIG": str(box.config)}
    assert number_of(box, "status", "--json", env=env) == 6002


def test_the_command_line_outdoes_the_environment(box: Box) -> None:
    other = box.home / "other.toml"
    box.configure("[queue]\nnumber = 6003")
    box.configure("[queue]\nnumber = 6004", other)
    env = {"SENTRYFW_CONFIG": str(other)}
    assert number_of(box, "status", "--json", "-c", box.config, env=env) == 6003


def test_no_file_at_the_default_place_means_the_defaults(box: Box) -> None:
    done = box.run("check")
    assert done.returncode == 0
    assert done.stdout == f"{box.default_config}: not there, the defaults\n"


def test_a_file_at_the_default_place_is_taken(box: Box) -> None:
    box.default_config.parent.mkdir()
    box.configure("[queue]\nnumber = 6005", box.default_config)
    assert number_of(box, "status", "--json") == 6005


@pytest.mark.parametrize(
    "words",
    [
        ("check",), ("status",), ("list",), ("install", "--no-service"), ("install", "--dry-run"),
        ("uninstall",), ("block", "203.0.113.7"), ("unblock", "--all"), ("doctor",), ("drill",),
        ("run",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_configuration_ends_in_78_with_every_fault(box: Box, words: tuple[str]) -> None:
    box.configure(FAULTY)
    done = box.sentryfw(*words)
    assert (done.returncode, done.stdout) == (78, "")
    for key in FAULT_KEYS:
        assert key in done.stderr
    assert done.stderr.count(str(box.config)) == len(FAULT_KEYS)
    assert "did you mean 'trigger'?" in done.stderr


def test_check_json_names_every_fault(box: Box) -> None:
    box.configure(FAULTY)
    done = box.sentryfw("check", "--json")
    assert done.returncode == 78
    said = json.loads(done.stdout)
    assert (said["config"], said["ok"]) == (str(box.config), False)
    assert {fault.partition(" ")[0] for fault in said["faults"]} == set(FAULT_KEYS)


def test_check_json_of_a_good_configuration(box: Box) -> None:
    done = box.sentryfw("check", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"config": str(box.config), "ok": True, "faults": []}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"[detect\n", "no TOML", id="no TOML"),
        pytest.param(b"\xff\xfe", "not UTF-8 at byte 0", id="not UTF-8"),
        pytest.param(None, "no such file", id="no file"),
    ],
)
def test_a_file_that_is_no_configuration_ends_in_78(
    box: Box, content: bytes | None, said: str
) -> None:
    box.config.unlink() if content is None else box.config.write_bytes(content)
    done = box.sentryfw("status")
    assert done.returncode == 78
    assert f"{box.config}: {said}" in done.stderr


@pytest.mark.parametrize("words", NEED_ROOT, ids=" ".join)
def test_without_root_it_ends_in_4_and_says_sudo(installed: Box, words: tuple[str, ...]) -> None:
    before = installed.ruleset()
    done = installed.sentryfw(*words, prefix=NOBODY)
    assert done.returncode == 4, done.stderr
    assert "sudo" in done.stderr
    assert installed.ruleset() == before


def test_check_needs_no_root(box: Box) -> None:
    assert box.sentryfw("check", prefix=NOBODY).returncode == 0


@pytest.mark.parametrize(
    "words",
    [("list",), ("status",), ("block", "203.0.113.7"), ("unblock", "203.0.113.7"),
     ("unblock", "--all")],
    ids=" ".join,
)  # fmt: skip
def test_without_install_it_ends_in_5(box: Box, words: tuple[str, ...]) -> None:
    assert box.sentryfw(*words).returncode == 5
    assert box.ruleset() == ""


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("block",), ("block", "203.0.113.7", "203.0.113.8"), ("list", "-c"),
     ("unblock",), ("unblock", "--all", "203.0.113.7"), ("list", "--nonsense")],
    ids=lambda words: " ".join(words) or "nothing",
)  # fmt: skip
def test_a_command_line_that_says_nothing_possible_ends_in_2(
    installed: Box, words: tuple[str, ...]
) -> None:
    done = installed.sentryfw(*words)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize(
    "words",
    [("list",), ("list", "--json"), ("status",), ("status", "--json"), ("doctor",),
     ("install", "--dry-run"), ("check",), ("--help",)],
    ids=" ".join,
)  # fmt: skip
def test_a_pipe_that_nobody_reads_is_no_accident(installed: Box, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        process = installed.namespace.popen(
            installed.launch("-c", installed.config, *words), stdout=closed, env=environment()
        )
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert error == ""


def test_run_is_the_daemon_until_sigterm(box: Box) -> None:
    process = box.namespace.popen(box.launch("-c", box.config, "run"), env=environment())
    assert process.stderr is not None
    for line in process.stderr:
        if "ready" in line:
            break
    assert box.sentryfw("status").returncode == 0
    process.terminate()
    assert process.wait(10) == 0
    process.communicate()


def test_the_commands_of_every_day_load_no_more_than_they_need() -> None:
    code = "import sys; from sentryfw.cli import app, blocks, status; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "sentryfw.cli.status" in loaded
    assert loaded & NOT_AT_START == set()
