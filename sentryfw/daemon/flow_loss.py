"""Notice when this host has lost, or never had, what it should know of live flows.

That is at the start, when an address, a link or a gateway changes (a failover moves an address to
this host, a routing protocol sends flows this way), and when connection tracking was flushed.

A full table of connection tracking is reported, too: the kernel then drops every new client, and
that looks like a block.
"""

import logging
from typing import Final

from sentryfw.daemon.packet_path import clock
from sentryfw.engine.engine import Engine
from sentryfw.engine.flows import FLOWS_UNKNOWN_S
from sentryfw.netlink.conntrack import ConntrackCounter, Flows, FlushDetector
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

MIN_FLOWS: Final = 16
"""Flows below which a loss is not noticed: so few make no scan."""
FULL_SHARE: Final = 0.95
"""Share of nf_conntrack_max from which on the table is reported as full."""
ROOM_SHARE: Final = 0.9
"""Share below which it is reported to have room again."""


class FlowLoss:
    """Sets until when the engine expects packets of unknown flows. Runs in the event loop."""

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self._engine = engine
        self._recorder = recorder
        self._counter = ConntrackCounter()
        self._flushes = FlushDetector()
        self.flows = Flows(0, 0)
        """The flows at the last tick."""
        self._is_full = False
        self._changes = 0
        self._was_flushed()
        self._expect()

    def close(self) -> None:
        try:
            self._flushes.remove()
        except OSError as error:
            log.warning("connection tracking keeps the flows that show a flush: %s", error.strerror)
        self._flushes.close()
        self._counter.close()

    def tick(self, host_changes: int) -> None:
        """Compare with the last second. `host_changes`: of addresses, links and gateways."""
        before, self.flows = self.flows.tracked, self._read()
        lost = self._was_flushed() and before >= MIN_FLOWS
        if lost:
            self._recorder.note("flows-lost", before=before, after=self.flows.tracked)
            log.warning(
                "connection tracking was flushed, of %d flows: packets of unknown flows do not"
                " count as probes for %.0f s", before, FLOWS_UNKNOWN_S,
            )  # fmt: skip
        if lost or host_changes != self._changes:
            self._expect()
        self._changes = host_changes
        self._report_full()

    def _read(self) -> Flows:
        """Return the flows; as before, if the kernel does not report them."""
        try:
            return self._counter.read() or self.flows
        except OSError:
            return self.flows

    def _was_flushed(self) -> bool:
        """Return whether connection tracking was flushed; False if the kernel does not show it."""
        try:
            return self._flushes.was_flushed()
        except OSError:
            return False

    def _report_full(self) -> None:
        """Report that the table of connection tracking became full, and that it has room again."""
        count, limit = self.flows
        is_full = limit > 0 and count >= limit * (ROOM_SHARE if self._is_full else FULL_SHARE)
        if is_full == self._is_full:
            return
        self._is_full = is_full
        if is_full:
            self._recorder.note("conntrack-full", flows=count, limit=limit)
            log.warning(
                "connection tracking is full, and the kernel drops new clients: %d of %d flows;"
                " raise net.netfilter.nf_conntrack_max", count, limit,
            )  # fmt: skip
        else:
            self._recorder.note("conntrack-full-over", flows=count, limit=limit)
            log.warning("connection tracking has room again: %d of %d flows", count, limit)

    def _expect(self) -> None:
        self._engine.flows_unknown_until = clock() + FLOWS_UNKNOWN_S
