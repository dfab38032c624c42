"""The event file: bounded by its own rotation, and opened again when another program moved it.

events.json becomes events-1.json at its largest size, events-1.json becomes events-2.json, and so
on. logrotate numbers its files differently (events.json.1), so both can work side by side.

See docs/decisions.md: event-rotation.
"""

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.host.private_files import open_private, private_directory
from sentryfw.text import dumps

MIB: Final = 1 << 20
SMALL_SHARE: Final = 20
"""The part of a small file system that stays free: a twentieth."""


class EventLimits(NamedTuple):
    """Bounds of the event file."""

    max_bytes: int = 8 * MIB
    max_files: int = 4
    """Renamed files that are kept."""
    min_free_bytes: int = 64 * MIB
    """Space of the file system below which nothing is written."""


class EventFile:
    """An append-only file of events, one line each; a line is written completely or not."""

    def __init__(self, path: Path, limits: EventLimits | None = None) -> None:
        self._path = path
        self.limits = limits or EventLimits()
        private_directory(path.parent)
        self._descriptor = self._open()

    def write(self, events: list[dict[str, Any]]) -> None:
        """Append events. Raise OSError if the disk does not accept them, or has too little room."""
        data = "".join(dumps(event) + "\n" for event in events).encode()
        self._follow_path()
        if is_low(self._path.parent, self.limits.min_free_bytes):
            raise OSError(errno.ENOSPC, "too little free space is left ([record] min_free_mib)")
        size = os.fstat(self._descriptor).st_size
        if size and size + len(data) > self.limits.max_bytes:
            self._rotate()
            size = 0
        written = os.write(self._descriptor, data)
        if written < len(data):
            os.ftruncate(self._descriptor, size)  # an incomplete line would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return open_private(self._path, os.O_WRONLY | os.O_APPEND)

    def _follow_path(self) -> None:
        """Open the path again if another program renamed or removed the file."""
        ours = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            there = self._path.lstat()
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        self._reopen()

    def _reopen(self) -> None:
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _rotate(self) -> None:
        """Rename the file, and the older ones before it; the oldest are removed."""
        keep = self.limits.max_files
        numbered = sorted(rotated(self._path).items(), reverse=True)
        for number, file in numbered:
            if number >= keep:
                file.unlink(missing_ok=True)
            else:
                file.rename(place(self._path, number + 1))
        if keep:
            self._path.rename(place(self._path, 1))
        else:
            self._path.unlink(missing_ok=True)
        self._reopen()


def place(path: Path, number: int) -> Path:
    """Return the path of a renamed file; the newest has number 1."""
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def rotated(path: Path) -> dict[int, Path]:
    """Return the renamed files of an event file, by their number."""
    name = re.compile(rf"{re.escape(path.stem)}-([1-9]\d{{0,8}}){re.escape(path.suffix)}", re.ASCII)
    with contextlib.suppress(OSError):
        return {
            int(match[1]): entry
            for entry in path.parent.iterdir()
            if (match := name.fullmatch(entry.name))
        }
    return {}


def is_low(directory: Path, min_bytes: int) -> bool:
    """Return whether the file system of a directory has less free space than that, and than a
    twentieth of it: a small one would always have less."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return False  # the write that follows reports it
    floor = min(min_bytes, status.f_blocks * status.f_frsize // SMALL_SHARE)
    return status.f_bavail * status.f_frsize < floor
