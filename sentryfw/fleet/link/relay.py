"""Both directions of the link. Each has a connection, a thread, and delays of its own.

Out: the hub's last number of our stream shows what it has, also after it lost something; what is
behind that is read from the daemon, and added. In: reading begins at the daemon's last number of
each member, after every fault again. So nothing is lost or doubled, whichever process is killed.
"""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from sentryfw.errors import SentryError
from sentryfw.fleet.link.back_off import HubBackOff
from sentryfw.fleet.link.daemon_side import DaemonSide
from sentryfw.fleet.link.link_report import LinkReport
from sentryfw.fleet.link.stream_items import HubFault, MemberStream, Signed

log: Final = logging.getLogger("sentryfw-link")

TELL_INTERVAL_S: Final = 5.0
"""Seconds between two readings of the streams' last numbers, and of the members' own reports."""
MANY_COUNT: Final = 256
"""Entries from which on there are probably more."""
MAX_TOLD: Final = 2000
"""Members in the report of another one."""


class AnyHub(Protocol):
    """A hub, as far as this module needs it (hub.py)."""

    def connect(self) -> None: ...
    def close(self) -> None: ...
    def last(self, members: Sequence[str]) -> dict[str, int]: ...
    def add(self, entries: Sequence[Signed]) -> int: ...
    def read(self, after: Mapping[str, int]) -> list[MemberStream]: ...
    def tell(self, text: str) -> None: ...
    def told(self, members: Sequence[str]) -> dict[str, bytes]: ...


class Sending:
    """Our entries, to the hub."""

    way: Final = "send"

    def __init__(self, hub: AnyHub, daemon: DaemonSide, report: LinkReport, own: str) -> None:
        self._hub = hub
        self._daemon = daemon
        self._report = report
        self._own = own
        self._after = 0

    def begin(self) -> None:
        """Connect, and find out what the hub has. Raise HubFault or SentryError."""
        self._hub.connect()
        self._after = self._hub.last([self._own])[self._own]
        self._report.last[self._own] = self._after

    def step(self) -> None:
        """Carry what there is, or wait for it. Raise HubFault or SentryError."""
        found = self._daemon.outgoing(self._after)
        if self._after > found.last:
            raise HubFault(
                f"the hub has entry {self._after} of {self._own}, and this firewall has made"
                f" {found.last} only: does another one use this name? If not, delete the stream"
                " at the hub"
            )
        if found.entries:
            known = self._hub.add(found.entries)
            self._after = found.entries[-1].seq
            self._report.last[self._own] = self._after
            self._report.sent += len(found.entries) - known
            self._report.known += known


class Receiving:
    """The entries of other members, to the daemon."""

    way: Final = "receive"

    def __init__(
        self, hub: AnyHub, daemon: DaemonSide, report: LinkReport, clock: Callable[[], float]
    ) -> None:
        """`clock`: seconds, increasing."""
        self._hub = hub
        self._daemon = daemon
        self._report = report
        self._clock = clock
        self._after: dict[str, int] = {}
        self._read: dict[str, int] = {}
        """Numbers up to which entries were read: those of _after, or further."""
        self._worker = ThreadPoolExecutor(1, "carry")
        self._carried: Future[None] | None = None
        self._told_at = -TELL_INTERVAL_S

    def begin(self) -> None:
        """Connect, and ask the daemon where to begin. Raise HubFault or SentryError."""
        with contextlib.suppress(HubFault, SentryError):  # the daemon knows how far that came
            self._finish()
        self._after = self._daemon.positions()
        self._read = dict(self._after)
        self._report.positions = dict(self._after)
        self._hub.connect()

    def step(self) -> None:
        """Carry what there is, or wait for it. Raise HubFault or SentryError."""
        if not self._after:
            raise SentryError("the configuration names no member: run `sentryfw fleet join`")
        self._look_around()
        found = self._hub.read(self._read)
        self._finish()
        self._read |= {stream.member: stream.cursor for stream in found}
        if max((len(stream.items) for stream in found), default=0) < MANY_COUNT:
            self._carry(found)
        else:  # the next ones are read while the daemon is busy with these
            self._carried = self._worker.submit(self._carry, found)

    def _finish(self) -> None:
        """Wait until the daemon has what was read before. Raise its faults."""
        carried, self._carried = self._carried, None
        if carried is not None:
            carried.result()

    def _carry(self, found: Sequence[MemberStream]) -> None:
        for stream in found:
            self._carry_one(stream)

    def _carry_one(self, stream: MemberStream) -> None:
        counts = self._report.refused.setdefault(stream.member, Counter())
        counts.update(stream.refused)
        for answer in self._daemon.incoming(stream.items):
            if "warning" in answer:
                log.warning("%s", answer["warning"])
            elif "effects" in answer:
                self._report.effects.update(answer["effects"])
            else:
                word = answer.get("effect") or f"refused: {answer.get('refused')}"
                self._report.effects[str(word)] += 1
        self._after[stream.member] = stream.cursor
        self._report.positions[stream.member] = stream.cursor

    def _look_around(self) -> None:
        now = self._clock()
        if now - self._told_at < TELL_INTERVAL_S:
            return
        self._told_at = now
        names = list(self._after)
        self._report.last.update(self._hub.last(names))
        self._hub.tell(json.dumps({"v": 1, "read": self._after}))
        self._report.told = {
            name: positions_in(text) for name, text in self._hub.told(names).items()
        }


def positions_in(text: bytes) -> dict[str, int]:
    """Return the numbers in a member's report about itself; nothing for what cannot be one."""
    try:
        read = json.loads(text)["read"]
        if not isinstance(read, dict) or len(read) > MAX_TOLD:
            return {}
        return {str(name)[:32]: int(number) for name, number in read.items()}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return {}


def run(
    direction: Sending | Receiving, report: LinkReport, back_off: HubBackOff,
    sleep: Callable[[float], object],
) -> None:  # fmt: skip
    """Carry entries for ever: after each fault wait, and begin again from what both sides have."""
    while True:
        try:
            direction.begin()
            while True:
                direction.step()
                report.reached(direction.way, time.time())
                back_off.succeeded()
        except (HubFault, SentryError) as fault:
            if report.failed(direction.way, str(fault), time.time()):
                log.warning("%s: %s", direction.way, fault)
        sleep(back_off.delay())
