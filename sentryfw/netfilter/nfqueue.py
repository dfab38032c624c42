"""The way of a packet: nfnetlink_queue's messages in, verdicts out.

Formats after linux/netfilter/nfnetlink_queue.h; attributes are struct nlattr, length and type in
host order, their integers in network order. Drops are told in runs: one message for all that are
dropped one after the other, and one send for a receive(), so that a flood costs one system call a
packet, not two. An accepted packet goes on at once, before the next one is judged: the answer to it
must not leave after a block that the next one makes. Every packet that was received has its verdict
when receive() returns, whatever judging it did.

mypyc compiles this module with the engine (see compiled.py).
"""

import errno
import struct
import sys
from collections.abc import Callable
from typing import Final

from sentryfw.engine.model import ACCEPT, DROP, Meta, Verdict
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.nlmsg import attribute

NFNL_SUBSYS_QUEUE: Final = 3
NFQNL_MSG_PACKET: Final = 0
NFQNL_MSG_VERDICT_BATCH: Final = 3
NFQA_PACKET_HDR: Final = 1
NFQA_VERDICT_HDR: Final = 2
NFQA_MARK: Final = 3
NFQA_PAYLOAD: Final = 10

UNLISTED_BIT: Final = 0x10000000
INSIDE_BIT: Final = 0x08000000
PARTNER_BIT: Final = 0x20000000
HALF_OPEN_BIT: Final = 0x40000000
PEER_BIT: Final = 0x80000000
MARK_MASK: Final = 0xF0000000
"""The packet mark's bits that rulesets/judge.nft sets and the verdict clears."""
MARK_MASK_INSIDE: Final = MARK_MASK | INSIDE_BIT
"""Likewise, where rulesets/inside.nft is loaded; else that bit is somebody else's."""

MESSAGE: Final = 2048
"""Bytes read of a message: the copy range and the attributes before it, with room to spare."""
BUDGET: Final = 128
"""Messages read before the event loop gets its turn."""

METAS: Final = {
    bits: Meta(
        unlisted=bool(bits & UNLISTED_BIT),
        partner=bool(bits & PARTNER_BIT),
        half_open=bool(bits & HALF_OPEN_BIT),
        peer=bool(bits & PEER_BIT),
        inside=bool(bits & INSIDE_BIT),
    )
    for bits in range(0, MARK_MASK_INSIDE + 1, INSIDE_BIT)
}

_HEADERS: Final = 20
"""Bytes of struct nlmsghdr and struct nfgenmsg."""
_LOW: Final = 0 if sys.byteorder == "little" else 1
_HIGH: Final = 1 - _LOW
_NONE: Final = -1
_KIND: Final = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH
_U32 = struct.Struct("!I")
_TWO_U32 = struct.Struct("!II")


class Queued:
    """A packet that waits in the kernel; whoever judges it sets its verdict."""

    __slots__ = ("mark", "meta", "number", "payload", "verdict")

    def __init__(self, number: int, mark: int, payload: bytes, meta: Meta) -> None:
        self.number = number
        """Its id in the queue, of 32 bits."""
        self.mark = mark
        self.payload = payload
        """Its first bytes, from the IP header on; empty if the kernel sent none."""
        self.meta = meta
        self.verdict: Verdict = ACCEPT


Judge = Callable[[Queued], None]


class Reader:
    """One queue, through two functions of its socket."""

    def __init__(
        self, recv: Callable[[int], bytes], send: Callable[[bytes], int], judge: Judge,
        queue: int, mask: int = MARK_MASK,
    ) -> None:  # fmt: skip
        self._recv = recv
        self._send = send
        self._judge = judge
        self._queue = queue
        self._mask = mask
        self.received = 0
        """Packets that came out of the queue."""
        self.skipped = 0
        """Packets that the kernel numbered but found no room for in our socket: it dropped them."""
        self.overruns = 0
        """Times the kernel had no room in our socket and dropped packets (ENOBUFS)."""
        self.failures = 0
        """Packets whose judging raised, and verdicts that the kernel did not take at once."""
        self.last_failure: Exception | None = None
        self.is_drained = True
        """Whether the last look found nothing more."""
        self._last = 0
        self._pending = b""
        self._dropped_to = _NONE

    def receive(self, budget: int = BUDGET) -> None:
        """Judge what is there, at most `budget` messages. OSError if the socket is broken."""
        self.is_drained = False
        try:
            for _ in range(budget):
                try:
                    message = self._recv(MESSAGE)
                except BlockingIOError:
                    self.is_drained = True
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.overruns += 1
                    continue
                packet = self._parse(message)
                if packet is not None:
                    self._take(packet)
        finally:
            self._flush()

    def _parse(self, message: bytes) -> Queued | None:
        """A message's packet; None if it brings none (the kernel's word that a packet was gone
        before its verdict came)."""
        end = len(message)
        if (
            end < _HEADERS
            or message[4 + _LOW] != NFQNL_MSG_PACKET
            or message[4 + _HIGH] != NFNL_SUBSYS_QUEUE
        ):
            return None
        number = -1
        mark = start = stop = 0
        at = _HEADERS
        while at + 4 <= end:
            size = message[at + _LOW] | message[at + _HIGH] << 8
            if size < 4 or at + size > end:
                break
            kind = message[at + 2 + _LOW]
            if kind == NFQA_PAYLOAD:
                start, stop = at + 4, at + size
            elif size >= 8:
                if kind == NFQA_MARK:
                    mark = _u32(message, at + 4)
                elif kind == NFQA_PACKET_HDR:
                    number = _u32(message, at + 4)
            at += (size + 3) & ~3
        if number < 0:
            return None
        return Queued(number, mark, message[start:stop], METAS[mark & self._mask])

    def _take(self, packet: Queued) -> None:
        self.received += 1
        self.skipped += (packet.number - self._last - 1) & 0xFFFFFFFF
        self._last = packet.number
        try:
            self._judge(packet)
        except Exception as error:  # noqa: BLE001 - whatever it is, the packet is not stuck
            self._fail(error)
        if packet.verdict == DROP:
            self._dropped_to = packet.number
            return
        self._tell_dropped()
        # As it was before our table saw the packet.
        mark = attribute(NFQA_MARK, _U32.pack(packet.mark & ~self._mask))
        self._tell(ACCEPT, packet.number, mark)
        self._flush()

    def _tell_dropped(self) -> None:
        """All that wait, up to the last one dropped: those before it have their verdicts."""
        if self._dropped_to != _NONE:
            self._tell(DROP, self._dropped_to)
            self._dropped_to = _NONE

    def _tell(self, verdict: Verdict, number: int, mark: bytes = b"") -> None:
        """A verdict; of an accepted packet with its mark."""
        header = attribute(NFQA_VERDICT_HDR, _TWO_U32.pack(verdict, number))
        self._pending += nl.message(
            _KIND,
            header + mark,
            flags=0,
            sequence=0,
            family=nl.NFPROTO_UNSPEC,
            resource=self._queue,
        )

    def _flush(self) -> None:
        """Send the verdicts; those that cannot be sent now go with the next ones."""
        self._tell_dropped()
        if not self._pending:
            return
        try:
            self._send(self._pending)
        except OSError as error:
            self._fail(error)
        else:
            self._pending = b""

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self.last_failure = error


def _u32(message: bytes, at: int) -> int:
    return message[at] << 24 | message[at + 1] << 16 | message[at + 2] << 8 | message[at + 3]
