"""Lines in hosts.deny(5), between two comments that are ours; all else is left as it is.

The file is replaced, never written in place: a reader sees the old one or the new one. What is
between the comments is the whole truth about our lines, so nothing has to be remembered.
"""

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sentryfw.respond.lane import Failed

BEGIN: Final = b"# BEGIN SentryFW: kept by sentryfwd, what is changed up to END is lost"
END: Final = b"# END SentryFW"
_BEGIN_MARK: Final = b"# BEGIN SentryFW"
MAX_BYTES: Final = 16 << 20
NEW_MODE: Final = 0o644
LOCK_PATIENCE: Final = 2.0
ATTEMPTS: Final = 5


def client(address: str) -> str:
    """An address as hosts_access(5) writes it: IPv6 in brackets, the prefix length behind."""
    if ":" not in address:
        return address
    network, slash, length = address.partition("/")
    return f"[{network}]{slash}{length}"


class HostsDeny:
    """The section of ours in one file."""

    def __init__(self, path: Path, line: str) -> None:
        self._path = path
        before, after = line.split("{address}")
        self._before, self._after = before.encode(), after.encode()
        self._line = re.compile(
            re.escape(self._before) + rb"[0-9a-fA-F.:\[\]/]+" + re.escape(self._after)
        )

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove lines of addresses, in one replacement of the file."""
        added = [self._render(address) for address, present in changes.items() if present]
        removed = {self._render(address) for address, present in changes.items() if not present}
        self._edit(lambda lines: [line for line in lines if line not in removed] + added)
        return {}

    def sync(self, addresses: set[str]) -> None:
        """Exactly these addresses; none: the section goes, too."""
        wanted = [self._render(address) for address in sorted(addresses)]
        self._edit(lambda lines: [line for line in lines if line in set(wanted)] + wanted)

    def lines(self) -> list[str]:
        """Ours, as they stand in the file."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [line.decode() for line in _split(data, self._line)[1]]

    def _render(self, address: str) -> bytes:
        return self._before + client(address).encode() + self._after

    def _edit(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        place = Path(os.path.realpath(self._path))  # a symlink stays; what it names is replaced
        with _locked(place.parent):
            for _ in range(ATTEMPTS):
                if self._try(place, change):
                    return
        raise Failed(f"{place}: somebody else keeps changing it")

    def _try(self, place: Path, change: Callable[[list[bytes]], list[bytes]]) -> bool:
        """Whether it is done; not, if the file was changed in the meantime."""
        data, status = _read(place)
        before, ours, after = _split(data, self._line)
        foreign = {line.strip() for line in (before + after).splitlines()}
        lines = [line for line in dict.fromkeys(change(ours)) if line not in foreign]
        new = _join(before, lines, after)
        return new == data or _replace(place, new, status)


def _split(data: bytes, ours: re.Pattern[bytes]) -> tuple[bytes, list[bytes], bytes]:
    """(what stands before our section, our lines, what stands behind it). A section that lost
    its end ends where a line is none of ours; a second one is taken for a part of the first."""
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
        before += b"\n"  # a line that is continued would swallow ours
    return before + b"\n".join((BEGIN, *lines, END)) + b"\n" + after


def _read(place: Path) -> tuple[bytes, os.stat_result | None]:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(place, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Failed(f"{place}: no regular file")
            if status.st_mode & stat.S_IWOTH:
                raise Failed(f"{place}: everybody may write it, so nobody may trust it")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b"", None
    except OSError as error:
        raise Failed(f"{place}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise Failed(f"{place}: larger than {MAX_BYTES} bytes")
    return data, status


def _replace(place: Path, data: bytes, old: os.stat_result | None) -> bool:
    """Put new bytes in the file's place, with its owner and mode; False if it has changed."""
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
        raise Failed(f"{place}: {error.strerror}; nothing was changed") from error
    return True


def _identity(place: Path) -> tuple[int, int, int] | None:
    try:
        status = place.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _copy_attributes(place: Path, descriptor: int) -> None:
    """SELinux's label, an ACL."""
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
    """One program of ours at a time. The lock is on the directory: it leaves no file behind."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"{directory}: {error.strerror}") from error
    try:
        if os.fstat(descriptor).st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise Failed(f"{directory}: everybody may put files there")
        end = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Failed(f"{directory}: locked by another program") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
