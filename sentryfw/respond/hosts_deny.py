"""Lines in hosts.deny(5), between two comments of ours; the rest of the file is not changed.

The file is replaced, never written in place: a reader sees the old file or the new one. The lines
between the comments are the only record of our lines, so nothing else has to be stored.

See docs/decisions.md: own-sections.
"""

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sentryfw.errors import ReactionFailed
from sentryfw.host.private_files import open_no_link
from sentryfw.host.signals import held

BEGIN: Final = b"# BEGIN SentryFW: kept by sentryfwd, what is changed up to END is lost"
END: Final = b"# END SentryFW"
_BEGIN_MARK: Final = b"# BEGIN SentryFW"
MAX_BYTES: Final = 16 << 20
NEW_MODE: Final = 0o644
LOCK_TIMEOUT_S: Final = 2.0
MAX_ATTEMPTS: Final = 5
"""Attempts to replace a file that other programs change at the same time."""
_LOCK_POLL_S: Final = 0.02
MAX_SPLICES: Final = 16
"""Changes at once that are cheaper without reading every line: each searches the whole file."""


def client(address: str) -> str:
    """Return an address as in hosts_access(5): IPv6 in brackets, then the prefix length."""
    if ":" not in address:
        return address
    network, slash, length = address.partition("/")
    return f"[{network}]{slash}{length}"


class HostsDenyFile:
    """Our section of one file. The methods raise ReactionFailed."""

    def __init__(self, path: Path, line: str) -> None:
        """`line`: the line for a source, with {address} in it."""
        self._path = path
        before, after = line.split("{address}")
        self._before, self._after = before.encode(), after.encode()
        self._line = re.compile(
            re.escape(self._before) + rb"[0-9a-fA-F.:\[\]/]+" + re.escape(self._after)
        )

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove the lines of addresses, in one replacement of the file."""
        added = [self._render(address) for address, present in changes.items() if present]
        removed = {self._render(address) for address, present in changes.items() if not present}

        def changed(data: bytes) -> bytes:
            spliced = _spliced(data, added, removed) if len(changes) <= MAX_SPLICES else None
            if spliced is not None:
                return spliced
            return self._rewritten(
                data, lambda ours: [line for line in ours if line not in removed] + added
            )

        self._edit(changed)
        return {}

    def sync(self, addresses: set[str]) -> None:
        """Write the lines of exactly these addresses; without any, remove the section."""
        wanted = [self._render(address) for address in sorted(addresses)]
        kept = set(wanted)
        self._edit(
            lambda data: self._rewritten(
                data, lambda ours: [line for line in ours if line in kept] + wanted
            )
        )

    def remove(self) -> None:
        """Remove our section, lines of an earlier template included; without one the file is not
        touched, and its directory not locked."""
        if _BEGIN_MARK in self._data():
            self.sync(set())

    def lines(self) -> list[str]:
        """Return our lines in the file."""
        return [line.decode() for line in _split(self._data(), self._line)[1]]

    def _data(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ReactionFailed(f"{self._path}: {error.strerror}") from error

    def _render(self, address: str) -> bytes:
        return self._before + client(address).encode() + self._after

    def _rewritten(self, data: bytes, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
        """Return the file with a section of changed lines, without those that others wrote."""
        before, ours, after = _split(data, self._line)
        foreign = {line.strip() for line in (before + after).splitlines()}
        return _join(
            before, [line for line in dict.fromkeys(change(ours)) if line not in foreign], after
        )

    def _edit(self, change: Callable[[bytes], bytes]) -> None:
        place = Path(
            os.path.realpath(self._path)
        )  # a symlink stays; the file that it names is replaced
        with _locked(place.parent):
            for _ in range(MAX_ATTEMPTS):
                if self._edit_once(place, change):
                    return
        raise ReactionFailed(f"{place}: another program keeps changing it: try again")

    def _edit_once(self, place: Path, change: Callable[[bytes], bytes]) -> bool:
        """Edit the file once; return False if another program changed it during that time."""
        data, status = _read(place)
        new = change(data)
        with held():  # no draft stays
            return new == data or _replace(place, new, status)


def _spliced(data: bytes, added: list[bytes], removed: set[bytes]) -> bytes | None:
    """Return the file with lines added to its section and others cut out, without reading the
    lines between; None if the section or a line is not exactly as this module writes it."""
    begin = data.find(BEGIN + b"\n")
    end = data.find(b"#", begin + 1) - 1
    others = data[: max(begin, 0)] + data[end + len(END) + 1 :]
    if begin < 0 or not data.startswith(b"\n" + END + b"\n", end):
        return None
    if _BEGIN_MARK in others or END in others or others[begin - 1 : begin] not in (b"", b"\n"):
        return None
    for line in removed:
        start = data.find(b"\n" + line + b"\n", begin, end + 1)
        if start >= 0:
            data = data[:start] + data[start + len(line) + 1 :]
            end -= len(line) + 1
    if end == begin + len(BEGIN) or any(_has_line(data, line) for line in (*added, *removed)):
        return None
    return b"\n".join((data[:end], *added)) + data[end:]


def _has_line(data: bytes, line: bytes) -> bool:
    """Return whether a line of the file ends with this one, spaces aside."""
    at = data.find(line)
    while at >= 0:
        end = at + len(line)
        if data[end : end + 1] in (b"", b"\n", b"\r", b" ", b"\t"):
            return True
        at = data.find(line, end)
    return False


def _split(data: bytes, ours: re.Pattern[bytes]) -> tuple[bytes, list[bytes], bytes]:
    """Return the text before our section, our lines, and the text after the section.

    A section without its end comment ends before the first line that is not ours. A second
    section counts as a part of the first.
    """
    before: list[bytes] = []
    after: list[bytes] = []
    lines: list[bytes] = []
    is_inside = seen = False
    has_end = False
    for index, raw in enumerate(all_lines := data.splitlines(keepends=True)):
        line = raw.strip()
        if line.startswith(_BEGIN_MARK):
            is_inside = seen = True
            has_end = _has_end(all_lines[index + 1 :])
        elif is_inside and line == END:
            is_inside = False
        elif is_inside and ours.fullmatch(line):
            lines.append(line)
        elif is_inside and has_end:
            continue
        else:
            is_inside = False
            (after if seen else before).append(raw)
    return b"".join(before), lines, b"".join(after)


def _has_end(lines: list[bytes]) -> bool:
    for raw in lines:
        if raw.strip().startswith(_BEGIN_MARK):
            return False
        if raw.strip() == END:
            return True
    return False


def _join(before: bytes, lines: list[bytes], after: bytes) -> bytes:
    if not lines:
        return before + after
    if before and not before.endswith(b"\n"):
        before += b"\n"
    if before.rstrip(b"\r\n").endswith(b"\\") and not before.endswith(b"\n\n"):
        before += b"\n"  # a continued line would include ours
    return before + b"\n".join((BEGIN, *lines, END)) + b"\n" + after


def _read(place: Path) -> tuple[bytes, os.stat_result | None]:
    try:
        with os.fdopen(open_no_link(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReactionFailed(f"{place}: not a regular file")
            if status.st_mode & stat.S_IWOTH:
                raise ReactionFailed(f"{place}: every user can write it: chmod o-w {place}")
            data = file.read(min(status.st_size, MAX_BYTES) + 1)
    except FileNotFoundError:
        return b"", None
    except OSError as error:
        raise ReactionFailed(f"{place}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ReactionFailed(f"{place}: larger than {MAX_BYTES} bytes")
    return data, status


def _replace(place: Path, data: bytes, old: os.stat_result | None) -> bool:
    """Replace the file, keeping owner and mode; return False if it has changed since."""
    import tempfile  # noqa: PLC0415 - memory of the few daemons that write lines

    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if old is not None:
                    os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) if old else NEW_MODE)
                _copy_attributes(place, descriptor)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            if _identity(place) != (old and (old.st_ino, old.st_size, old.st_mtime_ns)):
                Path(name).unlink()
                return False
            Path(name).replace(place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        _sync_directory(place.parent)
    except OSError as error:
        raise ReactionFailed(f"{place}: {error.strerror}; nothing was changed") from error
    return True


def _identity(place: Path) -> tuple[int, int, int] | None:
    try:
        status = place.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _copy_attributes(place: Path, descriptor: int) -> None:
    """Copy the extended attributes: SELinux's label, an ACL."""
    with contextlib.suppress(OSError):  # not every file system has them
        for name in os.listxattr(place):
            os.setxattr(descriptor, name, os.getxattr(place, name))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock of the directory: one SentryFW program at a time, without a lock file."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ReactionFailed(f"{directory}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()):
            raise ReactionFailed(f"{directory}: belongs to uid {status.st_uid}, not to root")
        if status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise ReactionFailed(
                f"{directory}: every user can create files in it: chmod o-w {directory}"
            )
        end = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ReactionFailed(f"{directory}: locked by another program") from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
