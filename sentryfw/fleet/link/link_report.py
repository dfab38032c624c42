"""The link's report about itself: a file that `sentryfw fleet status` reads."""

import contextlib
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = 1


class LinkReport:
    """Figures of both directions, written by their threads."""

    def __init__(self, hub: str) -> None:
        self._lock = threading.Lock()
        self._hub = hub
        self._faults = {"send": "not connected yet", "receive": "not connected yet"}
        self._changed_at = 0.0
        self.sent = 0
        """Entries added to the hub."""
        self.known = 0
        """Entries that the hub had already."""
        self.positions: dict[str, int] = {}
        """The number of each member from which reading goes on."""
        self.last: dict[str, int] = {}
        """The last number of each member's stream, and of our own."""
        self.told: dict[str, Mapping[str, int]] = {}
        """Numbers up to which each member has read the others, by its own word."""
        self.effects: Counter[str] = Counter()
        self.refused: dict[str, Counter[str]] = {}
        """Items that were no entries of the member whose stream they were in."""
        self.faults: Counter[str] = Counter()
        """Faults of the hub since the start."""

    def reached(self, way: str, now: float) -> None:
        """Note that a direction works. `now`: seconds since the epoch."""
        with self._lock:
            if self._faults[way]:
                self._faults[way] = ""
                self._changed_at = now

    def failed(self, way: str, why: str, now: float) -> bool:
        """Note a fault; return whether it is another one than before."""
        with self._lock:
            self.faults[why] += 1
            if self._faults[way] == why:
                return False
            self._faults[way] = why
            self._changed_at = now
            return True

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        with self._lock:
            faults = list(dict.fromkeys(filter(None, self._faults.values())))
            return {
                "v": SCHEMA, "hub": self._hub, "reached": not faults, "faults": faults,
                "since": self._changed_at, "sent": self.sent, "known": self.known,
                "positions": dict(self.positions), "last": dict(self.last),
                "told": {name: dict(found) for name, found in list(self.told.items())},
                "effects": dict(self.effects),
                "refused": {name: dict(found) for name, found in list(self.refused.items())},
                "hub_faults": sum(self.faults.values()),
            }  # fmt: skip


class ReportFile:
    """The file; it is replaced when the report has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""

    def write(self, report: LinkReport, now: float) -> None:
        """Write a report. Raise OSError. `now`: seconds since the epoch."""
        text = json.dumps(report.as_dict()).encode()
        if text != self._written:
            new = self._path.with_name(f".{self._path.name}.new")
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(new, flags, 0o644), "wb") as file:
                file.write(text)
            new.replace(self._path)
            self._written = text
        os.utime(self._path, (now, now))  # the reader sees that the link lives
