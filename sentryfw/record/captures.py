"""The packets behind a block: kept in memory below the trigger, written when a source is blocked.

RecentProbes holds the first bytes of the last few probes of a source; CaptureStore writes them,
one small pcapng file a block, in the recorder's thread. Both are bounded. A forged source comes
once, and sources with one packet only evict each other.

See docs/decisions.md: recent-probes.
"""

import contextlib
import errno
import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import __version__
from sentryfw.engine.model import Block, Confinement, Probe, Source
from sentryfw.host.private_files import open_private, private_directory, read_as_owner
from sentryfw.record import pcapng
from sentryfw.record.records import DecisionRecord, event_id, stamp, target_text

SNAP_BYTES: Final = 128
"""Bytes kept of a packet: IP and TCP headers with all options, or the start of a payload."""
MAX_SINGLE: Final = 8192
"""Sources remembered with one packet."""
MAX_SEVERAL: Final = 2048
"""Sources remembered with several packets."""
MAX_CAPTURE_BYTES: Final = 1 << 20
"""Bytes read of one capture; 64 packets take 20 KB."""
SUFFIX: Final = ".pcapng"
_PART: Final = ".part"


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


class CaptureStore:
    """The directory of captures, with one file a block."""

    def __init__(self, directory: Path, files: int, age: float) -> None:
        """`files`: captures that are kept at most; `age`: seconds after which one is removed."""
        self._directory = private_directory(directory)
        self._max_files = files
        self._age = age
        self._names = deque(sorted(self._found()))

    def _found(self) -> list[str]:
        """Return the names of the captures; remove files that a crash left incomplete."""
        names = []
        for path in self._directory.iterdir():
            if path.name.endswith(_PART):
                path.unlink(missing_ok=True)
            elif path.name.endswith(SUFFIX):
                names.append(path.name)
        return names

    def write(self, entry: DecisionRecord, probes: list[RecentProbe]) -> None:
        """Write the packets of one block, completely or not.

        Raise OSError if the disk does not accept them.
        """
        name = file_name(entry)
        part = self._directory / f"{name}{_PART}"
        try:
            _write(part, render(entry, probes))
            part.rename(self._directory / name)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self._names.append(name)
        self.trim(time.time())

    def trim(self, now: float) -> None:
        """Remove the oldest captures, beyond the number and beyond the age."""
        oldest = stamp(now - self._age)
        while self._names and (len(self._names) > self._max_files or self._names[0] < oldest):
            (self._directory / self._names.popleft()).unlink(missing_ok=True)


def file_name(entry: DecisionRecord) -> str:
    """Return the file name of a block's capture. Names sort by time."""
    return f"{event_id(entry)}{SUFFIX}"


def captures(directory: Path, entries: list[DecisionRecord]) -> list[bytes]:
    """Return the captures of these blocks that still exist, in the order of the blocks. A link, a
    pipe or a directory in place of one is left out."""
    found = []
    for entry in entries:
        with contextlib.suppress(OSError):
            found.append(read_as_owner(directory / file_name(entry), MAX_CAPTURE_BYTES))
    return found


def render(entry: DecisionRecord, probes: list[RecentProbe]) -> bytes:
    """Return the file; the comment of each packet names its event and the kind of probe."""
    identity = event_id(entry)
    head = pcapng.section(
        f"event {identity}: blocked {entry.address}: {entry.scan}, {entry.reason}",
        f"SentryFW {__version__}",
        SNAP_BYTES,
    )
    return head + b"".join(
        pcapng.packet(
            seen.at,
            seen.data,
            seen.length,
            f"event {identity}: {seen.probe.kind} to {target_text(seen.probe.target)}",
        )
        for seen in probes
    )


def _write(path: Path, data: bytes) -> None:
    """Write a new file. Raise OSError if the disk accepts less than all of it."""
    descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
