"""Options, configuration and exit codes that all commands share, and a pipe that closes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sentryfw import __version__
from support.box import AS_UNPRIVILEGED, Box
from support.fake_host import FakeHost
from support.host import BIN, Host, environment

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
    ("drill",), ("drill", "--forge"), ("list", "--would-block"), ("list", "--count"),
    ("status", "--json"), ("report",), ("report", "--json"), ("explain", "203.0.113.7"),
    ("watch", "--once"), ("watch", "--json"), ("export",), ("allow", "list"),
    ("allow", "add", "192.0.2.1"), ("confirm",), ("panic",), ("uninstall", "--purge"),
)  # fmt: skip


NOT_AT_START = {
    "asyncio", "concurrent.futures", "email", "importlib.metadata", "rich.table", "scapy",
    "sentryfw.daemon.main", "sentryfw.host.protected", "sentryfw.netfilter.libnftables",
    "sentryfw.respond",
}  # fmt: skip
"""Tens of milliseconds of every `status`, `list` and `unblock`, which need none of them."""


def number_of(host: Host, *words: str | Path, env: dict[str, str] | None = None) -> int:
    """The queue number in the configuration that a run of `status` took."""
    done = host.run(*words, env=env)
    assert done.returncode == 5, done.stderr
    return int(json.loads(done.stdout)["queue"]["number"])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param([BIN / "sentryfw"], "sentryfw", id="sentryfw"),
        pytest.param([sys.executable, "-P", "-m", "sentryfw"], "sentryfw", id="module"),
        pytest.param([BIN / "sentryfwd"], "sentryfwd", id="sentryfwd"),
    ],
)
@pytest.mark.netns
def test_version_is_printed(box: Box, command: list[str | Path], name: str) -> None:
    done = box.namespace.run(*command, "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {__version__}\n"), done.stderr


PLANTED: Final = "open({mark!r}, 'w').close()\nraise ImportError('planted')\n"


@pytest.mark.netns
def test_run_imports_no_module_of_the_working_directory(box: Box, tmp_path: Path) -> None:
    """Root may stand in a directory into which another user put modules."""
    mark = tmp_path / "imported"
    for name in ("sqlite3", "json", "asyncio", "sentryfw"):
        (tmp_path / f"{name}.py").write_text(PLANTED.format(mark=str(mark)))
    box.configure("[queue]\nnumber = 70000")  # a fault: it ends once everything is imported
    words = f'cd {shlex.quote(str(tmp_path))} && exec "$@"'
    started = [BIN / "sentryfw", "-c", box.config, "run"]
    done = box.namespace.run("sh", "-c", words, "sh", *started)
    assert done.returncode == 78, done.stderr
    assert not mark.exists()


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
def test_the_configuration_is_named_before_or_after_the_command(
    bare_host: FakeHost, place: object
) -> None:
    bare_host.configure("[queue]\nnumber = 6001")
    assert callable(place)
    assert number_of(bare_host, *place(str(bare_host.config))) == 6001


def test_the_configuration_is_named_by_the_environment(bare_host: FakeHost) -> None:
    bare_host.configure("[queue]\nnumber = 6002")
    env = {"SENTRYFW_CONFIG": str(bare_host.config)}
    assert number_of(bare_host, "status", "--json", env=env) == 6002


def test_the_command_line_outdoes_the_environment(bare_host: FakeHost) -> None:
    other = bare_host.home / "other.toml"
    bare_host.configure("[queue]\nnumber = 6003")
    bare_host.configure("[queue]\nnumber = 6004", other)
    env = {"SENTRYFW_CONFIG": str(other)}
    assert number_of(bare_host, "status", "--json", "-c", bare_host.config, env=env) == 6003


def test_no_file_at_the_default_place_means_the_defaults(bare_host: FakeHost) -> None:
    done = bare_host.run("check")
    assert done.returncode == 0
    assert done.stdout == f"{bare_host.default_config}: does not exist; the defaults apply\n"


def test_a_file_at_the_default_place_is_taken(bare_host: FakeHost) -> None:
    bare_host.default_config.parent.mkdir()
    bare_host.configure("[queue]\nnumber = 6005", bare_host.default_config)
    assert number_of(bare_host, "status", "--json") == 6005


@pytest.mark.parametrize(
    "words",
    [
        ("check",), ("install", "--no-service"), ("install", "--dry-run"), ("reload",), ("drill",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_configuration_ends_in_78_with_every_fault(
    bare_host: FakeHost, words: tuple[str]
) -> None:
    bare_host.configure(FAULTY)
    done = bare_host.sentryfw(*words)
    assert done.returncode == 78
    assert done.stdout == (f"{bare_host.config}: 4 faults\n" if words == ("check",) else "")
    for key in FAULT_KEYS:
        assert key in done.stderr
    assert done.stderr.count(str(bare_host.config)) == len(FAULT_KEYS)
    assert "did you mean 'trigger'?" in done.stderr


@pytest.mark.netns
def test_run_with_a_wrong_configuration_ends_in_78_with_every_fault(box: Box) -> None:
    box.configure(FAULTY)
    done = box.spawn("-c", box.config, "run")
    assert (done.returncode, done.stdout) == (78, "")
    assert [key for key in FAULT_KEYS if key not in done.stderr] == []


@pytest.mark.netns
def test_run_without_root_ends_in_4(box: Box) -> None:
    done = box.spawn("-c", box.config, "run", prefix=AS_UNPRIVILEGED)
    assert done.returncode == 4, done.stderr
    assert "sudo" in done.stderr


def test_check_json_names_every_fault(bare_host: FakeHost) -> None:
    bare_host.configure(FAULTY)
    done = bare_host.sentryfw("check", "--json")
    assert done.returncode == 78
    said = json.loads(done.stdout)
    assert (said["config"], said["ok"]) == (str(bare_host.config), False)
    assert {fault.partition(" ")[0] for fault in said["faults"]} == set(FAULT_KEYS)


def test_check_json_of_a_good_configuration(bare_host: FakeHost) -> None:
    done = bare_host.sentryfw("check", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "config": str(bare_host.config), "ok": True, "faults": [], "warnings": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"[detect\n", "not TOML", id="not TOML"),
        pytest.param(b"\xff\xfe", "not UTF-8 at byte 0", id="not UTF-8"),
        pytest.param(None, "no such file", id="no file"),
    ],
)
def test_a_file_of_another_kind_ends_in_78(
    bare_host: FakeHost, content: bytes | None, said: str
) -> None:
    bare_host.config.unlink() if content is None else bare_host.config.write_bytes(content)
    done = bare_host.sentryfw("check")
    assert done.returncode == 78
    assert f"{bare_host.config}: {said}" in done.stderr


def test_a_named_file_that_was_never_there_is_an_error_of_every_command(
    bare_host: FakeHost,
) -> None:
    bare_host.config.unlink()
    for words in (("status",), ("list",), ("unblock", "--all"), ("uninstall", "--purge")):
        done = bare_host.sentryfw(*words)
        assert (done.returncode, done.stdout) == (78, "")
        assert f"{bare_host.config}: no such file" in done.stderr


@pytest.mark.parametrize("words", NEED_ROOT, ids=" ".join)
@pytest.mark.netns
def test_without_root_it_ends_in_4_and_names_sudo(installed: Box, words: tuple[str, ...]) -> None:
    before = installed.ruleset()
    done = installed.sentryfw(*words, as_root=False)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert done.stderr.endswith("run it with sudo\n")
    assert done.stderr.count("\n") == 1
    assert "Errno" not in done.stderr
    assert installed.ruleset() == before


@pytest.mark.netns
def test_check_needs_no_root(box: Box) -> None:
    assert box.sentryfw("check", as_root=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    [("list",), ("status",), ("block", "203.0.113.7"), ("unblock", "203.0.113.7"),
     ("unblock", "--all")],
    ids=" ".join,
)  # fmt: skip
def test_without_install_it_ends_in_5(bare_host: FakeHost, words: tuple[str, ...]) -> None:
    assert bare_host.sentryfw(*words).returncode == 5
    assert bare_host.ruleset() == ""


@pytest.mark.parametrize(
    "words",
    [(), ("nonsense",), ("block",), ("list", "-c"),
     ("unblock",), ("unblock", "--all", "203.0.113.7"), ("list", "--nonsense")],
    ids=lambda words: " ".join(words) or "nothing",
)  # fmt: skip
def test_an_impossible_command_line_ends_in_2(host: FakeHost, words: tuple[str, ...]) -> None:
    done = host.sentryfw(*words)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize(
    "words",
    [("list",), ("list", "--json"), ("status",), ("status", "--json"), ("doctor",),
     ("install", "--dry-run"), ("check",), ("--help",)],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.netns
def test_a_closed_pipe_ends_without_a_traceback(installed: Box, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        process = installed.namespace.popen(
            installed.launch("-c", installed.config, *words), stdout=closed, env=environment()
        )
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert error == ""


@pytest.mark.netns
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
    code = (
        "import sys; from sentryfw.cli import app;"
        " from sentryfw.cli.commands import blocks, status; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "sentryfw.cli.commands.status" in loaded
    assert loaded & NOT_AT_START == set()
