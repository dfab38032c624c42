"""Files that only their owner writes."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.record.files import open_private, private_directory


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    """What the modes are without help from the caller's mask."""
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "var" / "lib" / "sentryfw")
    assert made.is_dir()
    assert _mode(made) == 0o750


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert private_directory(tmp_path) == tmp_path
    assert _mode(tmp_path) == 0o711


@pytest.mark.parametrize(
    "mode", [0o777, 0o702, 0o1777, 0o770], ids=["777", "702", "like-tmp", "its-group"]
)
def test_a_directory_that_others_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(SentryError, match=f"with mode {mode:o}; it must belong to uid"):
        private_directory(tmp_path)


def test_a_place_that_others_could_rename_away_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(SentryError, match="everybody may rename what is in it"):
        private_directory(shared / "sentryfw" / "state")
    shared.chmod(0o1777)
    assert private_directory(shared / "sentryfw" / "state").is_dir()


@pytest.mark.netns  # needs root, to give a directory away
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(SentryError, match="owned by uid 65534"):
        private_directory(tmp_path)


def test_a_file_in_the_directory_s_place_is_said(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.touch()
    with pytest.raises(SentryError, match=re.escape(f"{place}: File exists")):
        private_directory(place)


def test_a_missing_file_is_made_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    os.close(open_private(path, os.O_RDWR))
    assert _mode(path) == 0o640


def test_a_file_that_is_there_keeps_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text("before\n")
    descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert path.read_text() == "before\nafter\n"


@pytest.mark.parametrize("there", [True, False], ids=["to-a-file", "dangling"])
def test_a_symlink_is_refused_and_not_followed(tmp_path: Path, *, there: bool) -> None:
    target, link = tmp_path / "passwd", tmp_path / "events.json"
    if there:
        target.write_text("root")
    link.symlink_to(target)
    with pytest.raises(SentryError, match=re.escape(f"{link}: Too many levels of symbolic links")):
        open_private(link, os.O_WRONLY | os.O_APPEND)
    assert target.exists() == there


def test_a_descriptor_is_not_inherited(tmp_path: Path) -> None:
    descriptor = open_private(tmp_path / "lock", os.O_RDWR)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.netns  # needs root, to stop being root
@pytest.mark.parametrize("what", ["directory", "file"])
def test_without_privilege_it_says_sudo(tmp_path: Path, what: str) -> None:
    tmp_path.chmod(0o700)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _report_as_nobody(tmp_path, what, write)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said.startswith("NoPrivilege: ")
    assert said.endswith("run it with sudo")


def _report_as_nobody(home: Path, what: str, descriptor: int) -> None:
    """In a child: what is said to uid 65534, which may not enter the directory. Never returns."""
    try:
        os.setuid(65534)
        if what == "directory":
            private_directory(home / "state")
        else:
            open_private(home / "lock", os.O_RDWR)
    except NoPrivilege as error:
        os.write(descriptor, f"NoPrivilege: {error}".encode())
    finally:
        os._exit(0)


@pytest.mark.netns
def test_a_read_only_file_system_is_named_as_such(tmp_path: Path) -> None:
    """Mounted in a mount namespace of its own."""
    file = tmp_path / "ledger.db"
    script = f"""
        mount -t tmpfs none {tmp_path} && : > {file} && mount -o remount,ro {tmp_path} &&
        {sys.executable} -c 'from pathlib import Path; from sentryfw.record import files
files.make_private(Path("{file}"))'
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert f"SentryError: {file}: Read-only file system" in done.stderr
