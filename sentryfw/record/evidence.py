"""The packets behind a block: remembered while a source is half-seen, kept when it is blocked.

Glimpses hold the first bytes of the last few probes of a source in memory; Evidence writes
them, one small pcapng a block, in the recorder's thread. Both are bounded: a forged source
comes once, and only such are pushed out by others that come once.
"""

import contextlib
import errno
import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import __version__
from sentryfw.engine.model import Block, Probe, Source
from sentryfw.record import pcapng
from sentryfw.record.entry import Entry, event_id, stamp, target_text
from sentryfw.record.files import open_private, private_directory

SNAP: Final = 128
"""Bytes kept of a packet: IP and TCP headers with all options, or the start of a payload."""
MAX_ONCE: Final = 8192
"""Sources remembered with one packet."""
MAX_AGAIN: Final = 2048
"""Sources remembered with several."""
SUFFIX: Final = ".pcapng"
_PART: Final = ".part"


class Glimpse(NamedTuple):
    """The first bytes of one probe."""

    at: float
    """Seconds since the epoch."""
    probe: Probe
    data: bytes
    length: int
    """Of the whole packet, as its header says."""


def glimpse(probe: Probe, payload: bytes, at: float) -> Glimpse:
    return Glimpse(at, probe, payload[:SNAP], _length(payload))


def _length(payload: bytes) -> int:
    """The queue copies the first bytes only; what there was in all, the header says."""
    if payload[0] >> 4 == 4:
        return max(len(payload), int.from_bytes(payload[2:4]))
    return max(len(payload), 40 + int.from_bytes(payload[4:6]))


class Glimpses:
    """The last `packets` probes of each half-seen source."""

    def __init__(self, packets: int) -> None:
        self._packets = packets
        self._once: OrderedDict[Source, Glimpse] = OrderedDict()
        self._again: OrderedDict[Source, list[Glimpse]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._once) + len(self._again)

    def keep(self, probe: Probe, payload: bytes, at: float) -> None:
        """One more; of sources seen least lately the packets are given up."""
        if not self._packets or not payload:
            return
        source, seen = probe.source, glimpse(probe, payload, at)
        known = self._again.get(source)
        if known is not None:
            self._again.move_to_end(source)
            known.append(seen)
            del known[: -self._packets]
            return
        first = self._once.pop(source, None)
        if first is None:
            self._once[source] = seen
            if len(self._once) > MAX_ONCE:
                self._once.popitem(last=False)
            return
        self._again[source] = [first, seen][-self._packets :]
        if len(self._again) > MAX_AGAIN:
            self._again.popitem(last=False)

    def take(self, block: Block, payload: bytes, at: float) -> list[Glimpse]:
        """The packets behind a block, the one that decided last; they are forgotten here."""
        first = self._once.pop(block.source, None)
        seen = self._again.pop(block.source, []) if first is None else [first]
        if payload and self._packets and block.evidence.last is not None:
            seen.append(glimpse(block.evidence.last, payload, at))
        return seen[-self._packets :] if self._packets else []


class Evidence:
    """The directory of captures, one a block: at most `files` of them, none older than `age`."""

    def __init__(self, directory: Path, files: int, age: float) -> None:
        self._directory = private_directory(directory)
        self._max_files = files
        self._age = age
        self._names = deque(sorted(self._found()))

    def _found(self) -> list[str]:
        """Captures that are there; what a crash left half-written is removed."""
        names = []
        for path in self._directory.iterdir():
            if path.name.endswith(_PART):
                path.unlink(missing_ok=True)
            elif path.name.endswith(SUFFIX):
                names.append(path.name)
        return names

    def write(self, entry: Entry, glimpses: list[Glimpse]) -> None:
        """The packets of one block, whole or not at all. OSError when the disk does not take
        them."""
        name = file_name(entry)
        half = self._directory / f"{name}{_PART}"
        try:
            _write(half, render(entry, glimpses))
            half.rename(self._directory / name)
        except OSError:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise
        self._names.append(name)
        self.trim(time.time())

    def trim(self, now: float) -> None:
        """Give up the oldest, beyond the number and beyond the age."""
        oldest = stamp(now - self._age)
        while self._names and (len(self._names) > self._max_files or self._names[0] < oldest):
            (self._directory / self._names.popleft()).unlink(missing_ok=True)


def file_name(entry: Entry) -> str:
    """Names sort by time."""
    return f"{event_id(entry)}{SUFFIX}"


def captures(directory: Path, entries: list[Entry]) -> list[bytes]:
    """The captures of these blocks that are still there, in their order."""
    found = []
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            found.append((directory / file_name(entry)).read_bytes())
    return found


def render(entry: Entry, glimpses: list[Glimpse]) -> bytes:
    """The file: each packet says which event it belongs to, and what it was taken for."""
    identity = event_id(entry)
    head = pcapng.section(
        f"event {identity}: blocked {entry.address}: {entry.scan}, {entry.reason}",
        f"SentryFW {__version__}",
        SNAP,
    )
    return head + b"".join(
        pcapng.packet(
            seen.at,
            seen.data,
            seen.length,
            f"event {identity}: {seen.probe.kind} to {target_text(seen.probe.target)}",
        )
        for seen in glimpses
    )


def _write(path: Path, data: bytes) -> None:
    """A new file. OSError where the disk takes less than all of it."""
    descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
