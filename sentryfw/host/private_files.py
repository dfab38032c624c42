"""Open and make files and directories that only their owner writes, never through a symlink.

See docs/decisions.md: lock-mode.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.host import account
from sentryfw.host.account import acting_as_owner

LOCK_MODE: Final = 0o600


def private_directory(path: Path) -> Path:
    """Make a directory with mode 0750 where it is missing, and return it.

    Raise SentryError if another user could put files into it.
    """
    try:
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir(mode=0o755, exist_ok=True)  # parents=True knows the umask alone
        path.mkdir(mode=0o750, exist_ok=True)
        status = path.stat()
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from error
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from error
    if status.st_uid != os.geteuid() and _is_a_stranger():
        raise NoPrivilege(f"{path}: only root and the daemon may use it: run it with sudo")
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise SentryError(
            f"{path}: owned by uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o};"
            f" it must belong to uid {os.geteuid()} and not be writable by others"
        )
    for parent in path.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise SentryError(
                f"{parent}: any user may rename the entries of this directory (mode"
                f" {stat.S_IMODE(mode):o}), so {path} is not safe there: chmod o-w {parent}"
            )
    return path


def _is_a_stranger() -> bool:
    """Return whether neither root nor the daemon's user runs this."""
    daemon = account.find()
    return os.geteuid() not in (0, 0 if daemon is None else daemon.uid)


def make_private(path: Path) -> None:
    """Make a file with mode 0640 where it is missing, and check it without opening it.

    For SQLite: a process that closes any descriptor of a file loses all its locks on it
    (fcntl_locking(2)), those of an open database as well; the next program to close the database
    would then delete the log that is still written to. Raise NoPrivilege or SentryError if the
    file cannot be read and written.
    """
    if not os.path.lexists(path):
        try:
            os.close(open_private(path, os.O_RDWR | os.O_EXCL))
        except SentryError:
            if not path.exists():  # otherwise another program has made it first
                raise
    elif path.is_symlink():
        raise SentryError(f"{path}: {os.strerror(errno.ELOOP)}")
    elif not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise SentryError(f"{path}: {os.strerror(errno.EROFS)}")
        raise NoPrivilege(f"{path}: {os.strerror(errno.EACCES)}: run it with sudo")


def open_lock(path: Path) -> int:
    """Open a lock file, with mode 0600 also where an earlier version made it with 0640.

    flock(2) needs no write access: a user who may read the file could hold the lock.
    """
    descriptor = open_private(path, os.O_RDWR, LOCK_MODE)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != LOCK_MODE:
            os.fchmod(descriptor, LOCK_MODE)
    except OSError as error:
        os.close(descriptor)
        raise SentryError(f"{path}: {error.strerror}") from error
    return descriptor


def open_private(path: Path, flags: int, mode: int = 0o640) -> int:
    """Open a file, made with `mode` where it is missing. Raise NoPrivilege or SentryError."""
    try:
        return open_no_link(path, flags | os.O_CREAT, mode)
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from error
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from error


def read_as_owner(path: Path, max_bytes: int) -> bytes:
    """Read at most `max_bytes` of a file in a directory of the daemon, as the daemon's user.

    Raise NoPrivilege, or OSError where the file is missing, is a link, is not a regular file, or
    cannot be read.
    """
    try:
        with acting_as_owner(path.parent):
            descriptor = open_no_link(path, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            return file.read(max_bytes)
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from None


def open_no_link(path: Path, flags: int, mode: int = 0o640) -> int:
    """Call open(2) so that a symlink is refused (ELOOP), a pipe is not waited for, and no child
    inherits the descriptor."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, mode)
