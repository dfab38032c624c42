"""The packets behind a block: kept in memory below the trigger, written when a source is blocked.

RecentProbes holds the first bytes of the last few probes of a source; CaptureStore writes them into
pcapng files, in the recorder's thread; CaptureReader finds them there. All are bounded. A forged
source comes once, and sources with one packet only evict each other.

See docs/decisions.md: recent-probes, capture-files.
"""

import contextlib
import errno
import os
import time
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import __version__
from sentryfw.engine.model import Block, Confinement, Probe, Source
from sentryfw.errors import NoPrivilege
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_private, private_directory, read_as_owner
from sentryfw.record import pcapng
from sentryfw.record.records import STAMP_LENGTH, DecisionRecord, event_id, stamp, target_text

SNAP_BYTES: Final = 128
"""Bytes kept of a packet: IP and TCP headers with all options, or the start of a payload."""
MAX_SINGLE: Final = 8192
"""Sources remembered with one packet."""
MAX_SEVERAL: Final = 2048
"""Sources remembered with several packets."""
MAX_IN_FILE: Final = 32
"""Captures in one file, at most."""
FILE_SPAN_S: Final = 10.0
"""Seconds between the first and the last block in one file, at most."""
MAX_FILE_BYTES: Final = 1 << 20
"""Bytes read of one file; 32 captures of 64 packets take 560 KB."""
MAX_FILES_READ: Final = 128
"""Files that a reader keeps in memory."""
SUFFIX: Final = ".pcapng"
_SUFFIXES: Final = (SUFFIX, f"{SUFFIX}.part")
"""An earlier version left files of the second kind where it was killed."""


class RecentProbe(NamedTuple):
    """The first bytes of one probe."""

    at: float
    """Seconds since the epoch."""
    probe: Probe
    data: bytes
    length: int
    """Bytes of the whole packet, according to its header."""


def recent_probe(probe: Probe, payload: bytes, at: float) -> RecentProbe:
    """Return the first bytes of a probe that arrived `at` seconds since the epoch."""
    return RecentProbe(at, probe, payload[:SNAP_BYTES], _length(payload))


def _length(payload: bytes) -> int:
    """Return the length of the packet from its header: the queue copies the first bytes only."""
    if payload[0] >> 4 == 4:
        return max(len(payload), int.from_bytes(payload[2:4]))
    return max(len(payload), 40 + int.from_bytes(payload[4:6]))


class RecentProbes:
    """The last probes of each source below the trigger."""

    def __init__(self, packets: int) -> None:
        """`packets`: probes kept of each source; 0: none."""
        self._packets = packets
        self._single: OrderedDict[Source, RecentProbe] = OrderedDict()
        self._several: OrderedDict[Source, list[RecentProbe]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._single) + len(self._several)

    def keep(self, probe: Probe, payload: bytes, at: float) -> None:
        """Remember one more probe of a source; evicts the least recently seen sources."""
        if not self._packets or not payload:
            return
        source, seen = probe.source, recent_probe(probe, payload, at)
        known = self._several.get(source)
        if known is not None:
            self._several.move_to_end(source)
            known.append(seen)
            del known[: -self._packets]
            return
        first = self._single.pop(source, None)
        if first is None:
            self._single[source] = seen
            if len(self._single) > MAX_SINGLE:
                self._single.popitem(last=False)
            return
        self._several[source] = [first, seen][-self._packets :]
        if len(self._several) > MAX_SEVERAL:
            self._several.popitem(last=False)

    def take(self, block: Block | Confinement, payload: bytes, at: float) -> list[RecentProbe]:
        """Remove and return the packets behind a block; the packet that decided it comes last."""
        first = self._single.pop(block.source, None)
        seen = self._several.pop(block.source, []) if first is None else [first]
        if payload and self._packets and block.evidence.last is not None:
            seen.append(recent_probe(block.evidence.last, payload, at))
        return seen[-self._packets :] if self._packets else []


class Capture(NamedTuple):
    """The packets behind a block."""

    entry: DecisionRecord
    probes: list[RecentProbe]

    @property
    def event(self) -> str:
        """How the comment of each of its packets begins."""
        return _event(self.entry)

    def packets(self) -> bytes:
        """Return the packet blocks; the comment of each names its event and the kind of probe."""
        return b"".join(
            pcapng.packet(
                seen.at,
                seen.data,
                seen.length,
                f"{self.event}: {seen.probe.kind} to {target_text(seen.probe.target)}",
            )
            for seen in self.probes
        )


class _File:
    """A file of captures."""

    def __init__(self, name: str, captures: int) -> None:
        self.name = name
        self.captures = captures


class CaptureStore:
    """The directory of captures: a file has those of some seconds."""

    def __init__(self, directory: Path, captures: int, age: float) -> None:
        """`captures`: those that are kept at most; `age`: seconds after which one is removed."""
        self._directory = private_directory(directory)
        self._max_captures = captures
        self._max_in_file = min(MAX_IN_FILE, max(1, captures // 64))
        """A removal takes a whole file: with few captures to keep, each gets its own."""
        self._age = age
        self._files = deque(
            _File(name, max(1, len(_packets(directory / name)))) for name in _names(directory)
        )
        self._kept = sum(file.captures for file in self._files)
        self._open: _File | None = None
        """The file that takes more."""

    def write(self, captures: Iterable[Capture]) -> None:
        """Write the packets of blocks. A file gets all of them that it takes, or none.

        Raise OSError if the disk does not accept them.
        """
        waiting: list[Capture] = []
        for capture in captures:
            if self._open is None or not self._takes(self._open, len(waiting), capture):
                self._append(waiting)
                waiting = []
                self._open = _File(file_name(capture.entry), 0)
            waiting.append(capture)
        self._append(waiting)
        self.trim(time.time())

    def _takes(self, file: _File, waiting: int, capture: Capture) -> bool:
        """Return whether one capture more belongs there, behind those that wait."""
        after, last = _span(capture.entry)
        has_room = file.captures + waiting < self._max_in_file
        return has_room and after < _first(file.name) <= last

    def _append(self, captures: list[Capture]) -> None:
        """Append to the open file."""
        file = self._open
        if file is None or not captures:
            return
        data = b"".join(capture.packets() for capture in captures)
        self._open = None  # a file that could not be written takes no more
        _extend(self._directory / file.name, data)
        if not file.captures:
            self._files.append(file)
        file.captures += len(captures)
        self._kept += len(captures)
        self._open = file

    def trim(self, now: float) -> None:
        """Remove the oldest files, beyond the number of captures and beyond the age."""
        oldest = stamp(now - self._age)
        while self._files and (self._kept > self._max_captures or self._files[0].name < oldest):
            gone = self._files.popleft()
            (self._directory / gone.name).unlink(missing_ok=True)
            self._kept -= gone.captures
            if gone is self._open:
                self._open = None


class CaptureReader:
    """The captures of a directory. Only regular files are read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names = _names(directory)
        self._files: dict[str, dict[bytes, bytes]] = {}
        """Packet blocks by the event in their comment, of the files read last."""

    def of(self, entry: DecisionRecord) -> bytes:
        """Return the capture of a block as a file; empty if there is none."""
        event = _event(entry).encode()
        start, end = (bisect_right(self._names, at, key=_first) for at in _span(entry))
        for name in reversed(self._names[start:end]):
            found = self._read(name).get(event)
            if found is not None:
                return _head(entry) + found
        return b""

    def _read(self, name: str) -> dict[bytes, bytes]:
        if name not in self._files:
            if len(self._files) == MAX_FILES_READ:
                self._files.clear()
            self._files[name] = _packets(self._directory / name)
        return self._files[name]


def captures(directory: Path, entries: Iterable[DecisionRecord]) -> list[bytes]:
    """Return the captures of these blocks that still exist, in the order of the blocks."""
    kept = CaptureReader(directory)
    return [found for entry in entries if (found := kept.of(entry))]


def file_name(entry: DecisionRecord) -> str:
    """Return the name of the file that begins with a block's capture. Names sort by time."""
    return f"{event_id(entry)}{SUFFIX}"


def _event(entry: DecisionRecord) -> str:
    return f"event {event_id(entry)}"


def _span(entry: DecisionRecord) -> tuple[str, str]:
    """Return between which times, the second included, a file with a block's capture begins."""
    return stamp(entry.blocked_at - FILE_SPAN_S), stamp(entry.blocked_at)


def _first(name: str) -> str:
    """Return when a file begins, from its name."""
    return name[:STAMP_LENGTH]


def _names(directory: Path) -> list[str]:
    """Return the names of the files of captures, the oldest first. Raise NoPrivilege."""
    try:
        with acting_as_owner(directory):
            names = [path.name for path in directory.iterdir()]
    except PermissionError as error:
        raise NoPrivilege(f"{directory}: {error.strerror}: run it with sudo") from None
    except OSError:  # captures are not kept
        return []
    return sorted(name for name in names if name.endswith(_SUFFIXES))


def _packets(path: Path) -> dict[bytes, bytes]:
    """Return the packet blocks in a file by the event in their comment; none of one that cannot be
    read."""
    data = b""
    with contextlib.suppress(OSError):
        data = read_as_owner(path, MAX_FILE_BYTES)
    found: dict[bytes, list[bytes]] = {}
    for comment, block in pcapng.commented(data):
        found.setdefault(comment.partition(b":")[0], []).append(block)
    return {event: b"".join(blocks) for event, blocks in found.items()}


def _head(entry: DecisionRecord) -> bytes:
    about = f"{_event(entry)}: blocked {entry.address}: {entry.scan}, {entry.reason}"
    return pcapng.section(about, f"SentryFW {__version__}", SNAP_BYTES)


def _extend(path: Path, packets: bytes) -> None:
    """Append packets to a file, behind its head. Raise OSError if the disk accepts less than all
    of it; the file is as before then."""
    descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(descriptor).st_size
        head = b"" if before else pcapng.section("", f"SentryFW {__version__}", SNAP_BYTES)
        try:
            _write_all(descriptor, head + packets)
        except OSError:
            os.ftruncate(descriptor, before)
            if not before:
                path.unlink()
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
