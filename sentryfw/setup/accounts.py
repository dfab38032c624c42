"""The daemon's system user and its directories, created by root at install."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentryfw.config.model import Paths
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.host.account import Account
from sentryfw.host.private_files import open_no_link

Say = Callable[[str], None]

USERADD: Final = (
    "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
    "--shell", "/usr/sbin/nologin",
)  # fmt: skip
ADDUSER: Final = ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin")
"""busybox's."""


def create_account(sysusers: Path, say: Say, name: str | None = None) -> Account:
    """Create the daemon's user, or that of a name, with the first tool that works here:
    systemd-sysusers with the file `sysusers`, useradd, or busybox's adduser. Raise SentryError if
    all of them fail."""
    user = name or account.USER
    errors = []
    for command in (
        ("systemd-sysusers", str(sysusers)),
        (*USERADD, user),
        ("addgroup", "-S", user),
        (*ADDUSER, "-G", user, user),
    ):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        errors.append(done.stderr.strip())
        found = account.find(name)
        if found is not None:
            say(f"created the system user {user}")
            return found
    raise SentryError(
        f"cannot create the system user {user}"
        f" ({'; '.join(filter(None, errors)) or 'no useradd'}): create it, with a group of that"
        " name, and install again"
    )


def own_directories(paths: Paths, owner: Account) -> None:
    """Create the daemon's directories. Those of a daemon that ran as root pass to the owner. Raise
    SentryError, with the path, if that is not possible or not safe."""
    for path in (paths.state, paths.runtime, paths.log):
        try:
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            _hand_over(path, owner)
        except OSError as error:
            raise SentryError(f"{path}: {error.strerror}") from error


def _hand_over(path: Path, owner: Account) -> None:
    """Change the owner of a directory and its contents. Only root may have written to it, so that
    no other user can have placed a link there; links are not followed."""
    descriptor = open_no_link(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, owner.uid) or status.st_mode & stat.S_IWOTH:
            raise SentryError(
                f"{path}: owned by uid {status.st_uid} with mode"
                f" {stat.S_IMODE(status.st_mode):o}; it must belong to {account.USER} or root,"
                " and not be writable by others"
            )
        if status.st_uid == owner.uid:
            return
        for _, folders, files, folder in os.fwalk(dir_fd=descriptor):
            for name in (*folders, *files):
                os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)
        os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, 0o750)
    finally:
        os.close(descriptor)
