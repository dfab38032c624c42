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
from sentryfw.host import account
from sentryfw.host.account import Account
from sentryfw.host.private_files import (
    open_lock,
    open_no_link,
    open_private,
    private_directory,
    read_as_owner,
)


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    """Modes do not depend on the caller's umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "var" / "lib" / "sentryfw")
    assert made.is_dir()
    assert _mode(made) == 0o750


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert private_directory(tmp_path) == tmp_path
    assert _mode(tmp_path) == 0o711


@pytest.mark.parametrize(
    "mode", [0o777, 0o702, 0o1777, 0o770], ids=["777", "702", "like-tmp", "its-group"]
)
def test_a_directory_writable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(SentryError, match=f"with mode {mode:o}; it must belong to uid"):
        private_directory(tmp_path)


def test_a_directory_that_others_could_rename_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(SentryError, match="any user may rename the entries of this directory"):
        private_directory(shared / "sentryfw" / "state")
    shared.chmod(0o1777)
    assert private_directory(shared / "sentryfw" / "state").is_dir()


@pytest.mark.netns  # needs root, to change the owner
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(SentryError, match="owned by uid 65534"):
        private_directory(tmp_path)


def test_a_file_in_place_of_the_directory_is_reported(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.touch()
    with pytest.raises(SentryError, match=re.escape(f"{place}: File exists")):
        private_directory(place)


def test_a_missing_file_is_made_for_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    os.close(open_private(path, os.O_RDWR))
    assert _mode(path) == 0o640


def test_a_lock_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "sentryfwd.lock"
    os.close(open_lock(path))
    assert _mode(path) == 0o600


def test_a_lock_file_of_an_earlier_version_is_closed_to_its_group(tmp_path: Path) -> None:
    path = tmp_path / "sentryfwd.lock"
    path.write_text("4711\n")
    path.chmod(0o640)
    os.close(open_lock(path))
    assert (_mode(path), path.read_text()) == (0o600, "4711\n")


def test_an_existing_file_keeps_its_contents(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT])
def test_a_symlink_is_refused_for_every_use(tmp_path: Path, flags: int) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_no_link(link, flags)
    assert not (tmp_path / "target").exists()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "allowlist"
    path.write_bytes(b"0123456789")
    assert read_as_owner(path, 4) == b"0123"
    with pytest.raises(FileNotFoundError):
        read_as_owner(tmp_path / "missing", 4)


@pytest.mark.netns  # needs root, to act as another user
def test_root_reads_a_daemons_file_with_the_daemons_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "find", lambda: Account(65534, 65534))
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o711)
    path = tmp_path / "allowlist"
    path.write_bytes(b"198.51.100.1")
    path.chmod(0o600)
    assert read_as_owner(path, 20) == b"198.51.100.1"
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(NoPrivilege, match="run it with sudo"):
        read_as_owner(path, 20)


@pytest.mark.netns  # needs root, to stop being root
@pytest.mark.parametrize("what", ["directory", "file"])
def test_missing_privilege_is_reported_with_sudo(tmp_path: Path, what: str) -> None:
    tmp_path.chmod(0o700)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _report_as_nobody(tmp_path, what, write)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer.startswith("NoPrivilege: ")
    assert answer.endswith("run it with sudo")


def _report_as_nobody(home: Path, what: str, descriptor: int) -> None:
    """Report the error of uid 65534, which may not enter the directory. Never returns: a child."""
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
def test_a_read_only_file_system_is_reported(tmp_path: Path) -> None:
    """The file system is mounted in its own mount namespace."""
    file = tmp_path / "ledger.db"
    script = f"""
        mount -t tmpfs none {tmp_path} && : > {file} && mount -o remount,ro {tmp_path} &&
        {sys.executable} -c 'from pathlib import Path; from sentryfw.host import private_files
private_files.make_private(Path("{file}"))'
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert f"SentryError: {file}: Read-only file system" in done.stderr
