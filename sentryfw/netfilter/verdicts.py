"""Packets from nfnetlink_queue in, verdicts out.

Formats follow linux/netfilter/nfnetlink_queue.h; attributes are struct nlattr, length and type in
host order, their integers in network order. Drops are sent in runs: one message for all packets
dropped in succession, and one send for a receive(), so that a flood costs one system call a packet,
not two. An accepted packet is released at once, before the next one is judged: the answer to it
must not leave after a block that the next one causes. When receive() returns, every packet that it
received has a verdict, even if the judge failed.

mypyc compiles this module with the engine.

See docs/decisions.md: queue-reader, mark-bits.
"""

import errno
import struct
import sys
from collections.abc import Callable
from typing import Final

from sentryfw.engine.model import ACCEPT, DROP, REJECT, Meta, Verdict
from sentryfw.netfilter.schema import (
    DEFERRED_BITS,
    HALF_OPEN_BIT,
    MARK_MASK,
    PARTNER_BIT,
    PEER_BIT,
    UNLISTED_BIT,
)
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import attribute
from sentryfw.netlink.nfqueue import (
    ETH_ALEN,
    NFNL_SUBSYS_QUEUE,
    NFQA_HWADDR,
    NFQA_IFINDEX_INDEV,
    NFQA_MARK,
    NFQA_PACKET_HDR,
    NFQA_PAYLOAD,
    NFQA_VERDICT_HDR,
    NFQNL_MSG_PACKET,
    NFQNL_MSG_VERDICT_BATCH,
)

MAX_MESSAGE_BYTES: Final = 2048
"""Bytes read of a message: the copy range and the attributes before it, with room to spare."""
READ_BATCH: Final = 128
"""Messages read before the event loop gets its turn."""

NF_INET_FORWARD: Final = 2
"""The forward hook (linux/netfilter.h)."""
_FORWARDED_BIT: Final = 1
"""Bit beside those of the packet mark, in keys of METAS."""

METAS: Final = {
    bits | forwarded: Meta(
        unlisted=bits & DEFERRED_BITS == UNLISTED_BIT,
        partner=bool(bits & PARTNER_BIT),
        half_open=bits & DEFERRED_BITS == HALF_OPEN_BIT,
        deferred=bits & DEFERRED_BITS == DEFERRED_BITS,
        peer=bool(bits & PEER_BIT),
        forwarded=forwarded == _FORWARDED_BIT,
    )
    for bits in range(0, MARK_MASK + 1, UNLISTED_BIT)
    for forwarded in (0, _FORWARDED_BIT)
}
"""The facts that the bits of a packet mark carry."""

_HEADERS_BYTES: Final = 20
"""struct nlmsghdr and struct nfgenmsg."""
_LOW: Final = 0 if sys.byteorder == "little" else 1
_HIGH: Final = 1 - _LOW
_NO_NUMBER: Final = -1
_KIND: Final = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH
_U32 = struct.Struct("!I")
_TWO_U32 = struct.Struct("!II")


class Queued:
    """A packet that the kernel holds until its verdict; the judge sets the verdict."""

    __slots__ = ("hardware", "interface", "mark", "meta", "number", "payload", "verdict")

    def __init__(
        self, number: int, mark: int, payload: bytes, meta: Meta, hardware: bytes = b"",
        interface: int = 0,
    ) -> None:  # fmt: skip
        self.number = number
        """The packet's id in the queue, 32 bits."""
        self.mark = mark
        self.payload = payload
        """The first bytes, from the IP header on; may be empty."""
        self.meta = meta
        self.hardware = hardware
        """Ethernet address of the frame's sender, 6 bytes; empty on other links."""
        self.interface = interface
        """Number of the interface that it came in by; 0 if it is not known."""
        self.verdict: Verdict = ACCEPT


Judge = Callable[[Queued], None]


class Reader:
    """Reads one queue and sends its verdicts, through two functions of its socket."""

    def __init__(
        self, recv: Callable[[int], bytes], send: Callable[[bytes], int], judge: Judge,
        queue: int,
    ) -> None:  # fmt: skip
        self._recv = recv
        self._send = send
        self._judge = judge
        self._queue = queue
        self.received = 0
        """Packets read from the queue."""
        self.skipped = 0
        """Packets that the kernel numbered and then dropped, because our socket was full."""
        self.overruns = 0
        """Times that the kernel dropped packets because our socket was full (ENOBUFS)."""
        self.failures = 0
        """Packets whose judge raised an exception, and refused sends of verdicts."""
        self.last_failure: Exception | None = None
        self.is_drained = True
        """Whether the last receive() emptied the queue."""
        self._last = 0
        self._pending = b""
        self._dropped_to = _NO_NUMBER

    def receive(self, budget: int = READ_BATCH) -> None:
        """Judge at most `budget` of the waiting packets. Raise OSError if the socket fails."""
        self.is_drained = False
        try:
            for _ in range(budget):
                try:
                    message = self._recv(MAX_MESSAGE_BYTES)
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
                    self._judge_one(packet)
        finally:
            self._flush()

    def _parse(self, message: bytes) -> Queued | None:
        """Return the packet in a message; None for another message.

        The kernel reports an error if a packet was gone before its verdict arrived.
        """
        end = len(message) if _is_packet(message) else 0
        number = -1
        mark = start = stop = forwarded = hardware = interface = 0
        at = _HEADERS_BYTES
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
                    is_forwarded = size > 10 and message[at + 10] == NF_INET_FORWARD
                    forwarded = _FORWARDED_BIT * is_forwarded
                elif kind == NFQA_IFINDEX_INDEV:
                    interface = _u32(message, at + 4)
                elif kind == NFQA_HWADDR:
                    hardware = at + 4
            at += (size + 3) & ~3
        if number < 0:
            return None
        meta = METAS[mark & MARK_MASK | forwarded]
        sender = _sender(message, hardware)
        return Queued(number, mark, message[start:stop], meta, sender, interface)

    def _judge_one(self, packet: Queued) -> None:
        self.received += 1
        self.skipped += (packet.number - self._last - 1) & 0xFFFFFFFF
        self._last = packet.number
        try:
            self._judge(packet)
        except Exception as error:  # noqa: BLE001 - counted; the packet gets its verdict
            self._fail(error)
        if packet.verdict == DROP:
            self._dropped_to = packet.number
            return
        self._add_drop()
        # The mark as it was before our table changed it; one bit stays for reject.nft.
        cleared = packet.mark & ~MARK_MASK
        if packet.verdict == REJECT:
            cleared |= UNLISTED_BIT
        mark = attribute(NFQA_MARK, _U32.pack(cleared))
        self._add_verdict(ACCEPT, packet.number, mark)
        self._flush()

    def _add_drop(self) -> None:
        """Add one verdict for the packets dropped in succession.

        A batch verdict covers all waiting packets up to its number; earlier ones have theirs.
        """
        if self._dropped_to != _NO_NUMBER:
            self._add_verdict(DROP, self._dropped_to)
            self._dropped_to = _NO_NUMBER

    def _add_verdict(self, verdict: Verdict, number: int, mark: bytes = b"") -> None:
        """Add a verdict to the next send; `mark` is the attribute of an accepted packet."""
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
        """Send the verdicts; if that fails, they are sent with the next ones."""
        self._add_drop()
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


def _is_packet(message: bytes) -> bool:
    return (
        len(message) >= _HEADERS_BYTES
        and message[4 + _LOW] == NFQNL_MSG_PACKET
        and message[4 + _HIGH] == NFNL_SUBSYS_QUEUE
    )


def _u32(message: bytes, at: int) -> int:
    return message[at] << 24 | message[at + 1] << 16 | message[at + 2] << 8 | message[at + 3]


def _sender(message: bytes, at: int) -> bytes:
    """Return the Ethernet address in struct nfqnl_msg_packet_hw: 16 bits length, 16 unused."""
    if at == 0 or message[at - 4 + _LOW] < 8 + ETH_ALEN:
        return b""
    if message[at] != 0 or message[at + 1] != ETH_ALEN:
        return b""
    return message[at + 4 : at + 4 + ETH_ALEN]
