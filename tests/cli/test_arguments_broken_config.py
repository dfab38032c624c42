"""Every command with a broken configuration: it does its work, and names the file once."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

from sentryfw.config import load_with_sources
from sentryfw.host import last_good
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.route import Routes
from support.box import Box
from support.fake_host import FakeHost
from support.host import Host

SCANNER: Final = "203.0.113.7"
FILE: Final = "conf.d/50-site.toml"


def _text(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text

    def damage(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    return damage


def _directory(path: Path) -> None:
    path.mkdir(parents=True)


def _loop(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)


DAMAGE: Final[dict[str, Callable[[Path], None]]] = {
    "syntax": _text("[detect\ntrigger = 3\n"),
    "unknown key": _text("[detect]\ntrigerr = 3\n"),
    "unknown section": _text("[detekt]\ntrigger = 3\n"),
    "wrong type": _text('[detect]\ntrigger = "many"\n'),
    "section as value": _text("detect = 3\n"),
    "not UTF-8": _text(b'[decoy]\nbanner = "\xff\xfe"\n'),
    "binary": _text(os.urandom(200) + b"\0\xff"),
    "huge line": _text("x = " + "1" * 20000),
    "directory": _directory,
    "link to itself": _loop,
}

COMMANDS: Final[dict[tuple[str, ...], int]] = {
    ("status",): 3,
    ("status", "--json"): 3,
    ("list",): 0,
    ("list", "--json"): 0,
    ("list", "--would-block"): 0,
    ("explain", SCANNER): 0,
    ("watch", "--once"): 3,
    ("block", "203.0.113.8"): 0,
    ("block", "203.0.114.0/24"): 0,
    ("unblock", SCANNER): 0,
    ("unblock", "--all"): 0,
    ("allow", "add", "192.0.2.1"): 0,
    ("allow", "list", "--all"): 0,
    ("doctor", "--json"): 0,
    ("report",): 0,
    ("report", "--json"): 0,
    ("metrics",): 3,
    ("export",): 0,
    ("export", "--format", "json"): 0,
    ("confirm",): 7,
}
"""Each command with its exit code where the table is installed and no daemon runs."""
ENDS: Final = (("uninstall",), ("uninstall", "--purge"), ("panic",))
NEED_IT: Final = (
    ("check",), ("install", "--no-service"), ("install", "--trial", "5m"), ("reload",), ("drill",),
    ("replay", "none.pcap"), ("config", "show"), ("config", "diff"),
)  # fmt: skip
"""The commands that are about the files, or judge by them."""


@pytest.fixture
def good(host: FakeHost) -> FakeHost:
    """A host with a block, and no last good configuration."""
    assert host.sentryfw("block", SCANNER).returncode == 0
    return host


def _broken(host: Host, kind: str, file: str = FILE) -> Path:
    path = host.config.parent / file
    if path == host.config:
        path.unlink()
    DAMAGE[kind](path)
    return path


def _warned_once(done: CompletedProcess[str], path: Path) -> str:
    lines = [line for line in done.stderr.splitlines() if "warning: " in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sentryfw: warning: ")
    assert str(path) in lines[0]
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_works_with_a_broken_drop_in(
    good: FakeHost, words: tuple[str, ...], kind: str
) -> None:
    path = _broken(good, kind)
    done = good.sentryfw(*words)
    assert done.returncode == COMMANDS[words], done.stderr
    assert "the defaults are used" in _warned_once(done, path)
    if "--json" in words:
        json.loads(done.stdout)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("words", [("list",), ("unblock", SCANNER), ("status",)], ids=" ".join)
def test_a_command_works_with_a_broken_main_file_and_the_last_good_one(
    good: FakeHost, words: tuple[str, ...], kind: str
) -> None:
    last_good.save(good.config, load_with_sources(good.config))
    path = _broken(good, kind, good.config.name)
    done = good.sentryfw(*words)
    assert done.returncode == COMMANDS[words], done.stderr
    assert "the last good configuration is used" in _warned_once(done, path)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("words", NEED_IT, ids=" ".join)
def test_a_command_about_the_files_refuses_and_names_the_file(
    good: FakeHost, words: tuple[str, ...], kind: str
) -> None:
    path = _broken(good, kind)
    before = good.ruleset()
    done = good.sentryfw(*words)
    assert done.returncode == 78, done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert good.ruleset() == before


@pytest.mark.parametrize("has_copy", [True, False], ids=["copy", "no copy"])
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("words", ENDS, ids=" ".join)
def test_every_effect_ends_with_a_broken_configuration(
    box: Box, words: tuple[str, ...], kind: str, *, has_copy: bool
) -> None:
    deny = box.home / "hosts.deny"
    box.configure(f"[respond.hosts_deny]\nenabled = true\npath = {json.dumps(str(deny))}")
    box.install()
    deny.write_text("x: y\n")
    box.sentryfw("block", SCANNER)
    HostsDenyFile(deny, "ALL: {address}").apply({SCANNER: True})
    with contextlib.closing(Routes()) as routes:
        box.inside(lambda: routes.add(SCANNER))
    if not has_copy:
        last_good.delete(box.config)
    path = _broken(box, kind, FILE if has_copy else "conf.d/1.toml")
    done = box.sentryfw(*words)
    assert done.returncode == 0, done.stderr
    _warned_once(done, path)
    assert box.ruleset() == ""
    assert box.namespace.ip("route", "show", "proto", "83") == ""
    if has_copy:
        assert deny.read_text() == "x: y\n"
    if "--purge" in words:
        left = {
            name for name in box.files() if name.startswith(("state", "runtime", "log", "last"))
        }
        assert left == set()


@pytest.mark.netns
def test_a_purge_of_the_default_configuration_leaves_a_directory_of_that_name(box: Box) -> None:
    box.default_config.parent.mkdir()
    box.configure("", box.default_config)
    _directory(box.default_config.parent / FILE)
    done = box.run("uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert not box.default_config.exists()
    assert (box.default_config.parent / FILE).is_dir()


@pytest.mark.netns
@pytest.mark.parametrize("kind", ["syntax", "wrong type", "directory"])
def test_the_running_daemons_own_is_used(box: Box, kind: str) -> None:
    box.configure("[detect]\nmode = 'observe'\n[block]\ntimeouts = ['2h']")
    daemon = box.start_daemon()
    path = _broken(box, kind)
    running = {("status", "--json"): 0, ("watch", "--once"): 0, ("status",): 0, ("metrics",): 0}
    box.sentryfw("block", SCANNER)
    assert box.elements("block4")[SCANNER]["timeout"] == 7200
    for command, code in ({**COMMANDS, **running}).items():
        if command[0] in {"unblock", "doctor"}:
            continue
        done = box.sentryfw(*command)
        assert done.returncode == code, (command, done.stderr)
        warning = _warned_once(done, path)
        assert warning.endswith("the running daemon's configuration is used"), command
    assert json.loads(box.sentryfw("status", "--json").stdout)["mode"] == "observe"
    assert box.sentryfw("unblock", SCANNER).returncode == 0
    assert SCANNER not in box.elements("block4")
    assert daemon.poll() is None
    assert box.sentryfw("uninstall", "--purge").returncode == 0
    assert daemon.wait(5) is not None
    assert box.ruleset() == ""
