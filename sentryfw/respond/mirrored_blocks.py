"""The blocks that hosts.deny and routes mirror, from their start to their end.

The kernel ends a block when its timeout expires, and reports nothing. The end is therefore
expected at its time, and the kernel asked then.
"""

import heapq
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_network
from typing import Final, Protocol

from sentryfw.config.neighbours import Crowdsec
from sentryfw.config.respond import Respond
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import ResultReporter, reason_of

END_DELAY_S: Final = 1.0
"""Seconds after a timeout when the kernel is asked whether the block has ended."""
CHECK_INTERVAL_S: Final = 60.0
"""Seconds until the kernel is asked again, if the block was made longer."""
MAX_WAIT_S: Final = 3600.0


class Mirror(Protocol):
    """A copy of the blocks elsewhere."""

    reporter: ResultReporter

    @property
    def proven_only(self) -> bool:
        """Whether it has proven blocks only: others act on it, who cannot weigh the evidence."""

    @property
    def ends_with_daemon(self) -> bool:
        """Whether it is emptied when the daemon ends: its copies do not end by themselves."""

    def describe(self, address: str, timeout: float, incident: Incident | None) -> None:
        """Take what is known about a block that is wanted next; `incident` None: by hand."""

    def want(self, address: str, *, present: bool) -> None:
        """Make the copy of one block present or absent."""

    def want_exactly(self, addresses: set[str]) -> None:
        """Make exactly these copies present."""

    def restore(self, active: Mapping[str, float]) -> None:
        """Make exactly the copies of these blocks present, by seconds left (0: permanent)."""


class BlockEnds:
    """Expected ends of blocks, by address; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._ends: dict[str, float] = {}

    def expect(self, address: str, end: float) -> None:
        """Expect a block to end at `end`; replaces an earlier expectation."""
        self._ends[address] = end
        heapq.heappush(self._heap, (end, address))

    def forget(self, address: str) -> None:
        """Expect no end of a block: it has ended, or is permanent."""
        self._ends.pop(address, None)

    def clear(self) -> None:
        """Expect no end of any block."""
        self._ends.clear()
        self._heap.clear()

    def pop_due(self, now: float) -> list[str]:
        """Remove and return the addresses whose blocks should have ended, in that order."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            end, address = heapq.heappop(self._heap)
            if self._ends.get(address) == end:  # else blocked again since, or unblocked
                del self._ends[address]
                due.append(address)
        return due

    def wait_s(self, now: float, limit: float) -> float:
        """Return the seconds until the next end, at most `limit`."""
        if not self._heap:
            return limit
        return min(max(0.0, self._heap[0][0] - now), limit)


class MirroredBlocks:
    """Passes the start and the end of each block to the mirrors."""

    def __init__(
        self,
        mirrors: Sequence[Mirror],
        never_block: NetworkIndex,
        is_blocked: Callable[[str], bool],
        faults: ResultReporter,
    ) -> None:
        """`is_blocked`: asks the kernel, and may raise SentryError; `faults`: reports that."""
        self._mirrors = mirrors
        self._never_block = never_block
        self._is_blocked = is_blocked
        self._faults = faults
        self._ends = BlockEnds()
        self.proven: set[str] = set()
        """The sources whose blocks are proven, for mirrors that copy no others."""

    @property
    def need_proof(self) -> bool:
        """Whether a mirror copies proven blocks only."""
        return any(mirror.proven_only for mirror in self._mirrors)

    def protect(self, never_block: NetworkIndex) -> None:
        """Replace the networks that are never blocked. May be called from any thread."""
        self._never_block = never_block

    def restore(self, active: dict[str, float], proven: Collection[str] = ()) -> None:
        """Mirror exactly these blocks, by seconds left (0: permanent)."""
        protected = [address for address in active if self._is_protected(address)]
        self.proven = active.keys() & proven if self.need_proof else set()
        for mirror in self._mirrors:
            copied = (self.proven if mirror.proven_only else active.keys()) - set(protected)
            mirror.restore({address: active[address] for address in copied})
        for address, seconds in active.items():
            self._expect_end(address, seconds)

    def withdraw(self, config: Respond, kept: Respond) -> None:
        """Remove the blocks from mirrors whose section of the configuration has changed."""
        for mirror in self._mirrors:
            name = mirror.reporter.name
            old, new = getattr(config, name), getattr(kept, name)
            if isinstance(old, Crowdsec) and old.place == new.place:
                continue  # the new reaction compares; this one could delete what that one finds
            if old != new:
                mirror.want_exactly(set())

    def withdraw_far(self) -> bool:
        """Remove every block from the mirrors that end with the daemon; return whether there are
        any."""
        far = [mirror for mirror in self._mirrors if mirror.ends_with_daemon]
        for mirror in far:
            mirror.want_exactly(set())
        return bool(far)

    def begin(self, address: str, timeout: float, incident: Incident | None = None) -> None:
        """Mirror a block for `timeout` seconds (0: permanent). `incident`: the decision behind it;
        None: by hand, which is as good as proven."""
        is_proven = incident is None or not incident.forgeable
        if not self._mirrors:
            return
        if not is_proven:
            self._end_far(address)
        elif self.need_proof:
            self.proven.add(address)
        is_protected = self._is_protected(address)
        for mirror in self._mirrors:
            if mirror.proven_only and not is_proven:
                continue
            if is_protected:
                mirror.reporter.failure(address, "covers addresses that are never blocked")
            else:
                mirror.describe(address, timeout, incident)
                mirror.want(address, present=True)
        self._expect_end(address, timeout)

    def end(self, address: str | None) -> None:
        """Remove a block, or every block (None), from the mirrors."""
        for mirror in self._mirrors:
            if address is None:
                mirror.want_exactly(set())
            elif not mirror.proven_only:
                mirror.want(address, present=False)
        if address is None:
            self._ends.clear()
            self.proven.clear()
        else:
            self._ends.forget(address)
            self._end_far(address)

    def _end_far(self, address: str) -> None:
        """Remove a block from the mirrors of proven blocks, if they have it."""
        if address in self.proven:
            self.proven.discard(address)
            for mirror in self._mirrors:
                if mirror.proven_only:
                    mirror.want(address, present=False)

    def check_ends(self) -> None:
        """Remove the blocks whose time is over, unless the kernel still has them."""
        for address in self._ends.pop_due(time.monotonic()):
            try:
                is_blocked = self._is_blocked(address)
            except SentryError as error:
                self._faults.failure(address, reason_of(error))
                is_blocked = True
            if is_blocked:
                self._expect_end(address, CHECK_INTERVAL_S)
            else:
                self.end(address)

    def wait_s(self) -> float:
        """Return the seconds until check_ends() is due."""
        return self._ends.wait_s(time.monotonic(), MAX_WAIT_S)

    def _is_protected(self, address: str) -> bool:
        """Return whether a line or a route for the address would affect a never-block network.

        nft accepts it before the block; hosts.deny and the routing table would not.
        """
        return self._never_block.overlaps(ip_network(address))

    def _expect_end(self, address: str, seconds: float) -> None:
        if seconds <= 0:  # until it is unblocked
            self._ends.forget(address)
        else:
            self._ends.expect(address, time.monotonic() + seconds + END_DELAY_S)
