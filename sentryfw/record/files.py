"""Directories and files that only their owner writes."""

import os
import stat
from pathlib import Path

from sentryfw.errors import NoPrivilege, SentryError


def private_directory(path: Path) -> Path:
    """The directory, made with mode 0750 where it is missing. SentryError if somebody else
    could put files into it."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        status = path.stat()
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from error
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
        raise SentryError(
            f"{path}: owned by uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o};"
            f" it must belong to uid {os.geteuid()} and not be writable by others"
        )
    return path


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file with mode 0640, made where it is missing; never through a symlink."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from error
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from error
