"""Directories and files that only their owner writes."""

import errno
import os
import stat
from pathlib import Path

from sentryfw.errors import NoPrivilege, SentryError


def private_directory(path: Path) -> Path:
    """The directory, made with mode 0750 where it is missing. SentryError if somebody else
    could put files into it."""
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
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise SentryError(
            f"{path}: owned by uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o};"
            f" it must belong to uid {os.geteuid()} and not be writable by others"
        )
    for parent in path.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise SentryError(
                f"{parent}: everybody may rename what is in it (mode {stat.S_IMODE(mode):o}), so"
                f" {path} is not safe there: chmod o-w {parent}"
            )
    return path


def make_private(path: Path) -> None:
    """The same without a descriptor, for SQLite: a process that closes any descriptor of a file
    loses all its locks on it (fcntl_locking(2)), those of an open database as well; the next
    program to close it would then delete the log that is still written to."""
    if not os.path.lexists(path):
        try:
            os.close(open_private(path, os.O_RDWR | os.O_EXCL))
        except SentryError:
            if not path.exists():  # else another program was faster
                raise
    elif path.is_symlink():
        raise SentryError(f"{path}: {os.strerror(errno.ELOOP)}")
    elif not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise SentryError(f"{path}: {os.strerror(errno.EROFS)}")
        raise NoPrivilege(f"{path}: {os.strerror(errno.EACCES)}: run it with sudo")


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file with mode 0640, made where it is missing; never through a symlink."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from error
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from error
