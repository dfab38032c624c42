"""One pass over a capture: each IP packet in its order, and a count of the rest."""

from sentryfw.engine.model import Malformed, Packet
from sentryfw.tools.replay.capture import Records
from sentryfw.tools.replay.header import CUT_SHORT, read_header
from sentryfw.tools.replay.linktypes import ETHERNET, LINKS, ethernet


class Pass:
    """Takes the packets of a capture, and counts the others."""

    def __init__(self) -> None:
        self.fates: dict[str, int] = {}
        """Packets by fate (table_model.Fate), or by the fault of their frame."""

    def take(self, packet: Packet, _seconds: float, data: bytes, at: int, end: int) -> None:
        """Take one packet, in the order of the capture. `at` and `end`: its place in `data`."""
        raise NotImplementedError

    def count(self, fate: str) -> None:
        """Count a packet."""
        self.fates[fate] = self.fates.get(fate, 0) + 1

    def read(self, records: Records) -> None:
        """Take each IP packet, and count the rest. Raise CaptureError or OSError."""
        while records.advance():
            data, end = records.data, records.end
            if records.linktype == ETHERNET:
                at = ethernet(data, records.start, end)
            else:
                find = LINKS.get(records.linktype)
                at = -2 if find is None else find(data, records.start, end)
            if at < 0:
                self.count("not IP" if at == -1 else f"link type {records.linktype}")
                continue
            packet = read_header(data, at, end)
            if isinstance(packet, Malformed):
                self.count("cut short" if packet is CUT_SHORT else "malformed")
            else:
                self.take(packet, records.seconds, data, at, end)
