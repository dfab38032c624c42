"""Who sent the very same probe at the same moment, and who shares a target's ports.

Two findings that no source shows by itself.

decoy-scan: `nmap -D` sends each probe once in the name of every decoy, with the same source
port, target port and sequence number (scan_engine_raw.cc, sendIPScanProbe: the packet is built
once a decoy from the same variables). Two sources that agree in these 64 bits within a second
are one sender. For datagrams it is ports and length; chance is likelier there, and all that
follows from a wrong guess is a shorter block.

distributed-scan: many sources, each with few probes, that share the ports of one target and
have one fingerprint (window, options, TCP flags). Background noise repeats its favourite ports;
a shared-out scan does not, so the ports must be nearly as many as the probes.
"""

from collections import OrderedDict
from typing import Final

from sentryfw.engine.model import Packet, Probe, Source
from sentryfw.engine.packet import TCP, UDP

MOMENT: Final = 1.0
"""Seconds within which the same probe counts as the same moment."""
MAX_KEYS: Final = 8192
MAX_GROUP: Final = 64
"""Sources remembered of one group."""

CROWD_WINDOW: Final = 60.0
CROWD_SOURCES: Final = 16
CROWD_PORTS: Final = 32
CROWD_OVERLAP: Final = 1.25
"""Probes for each port at most: a scan that is shared out tries a port once."""
MAX_CROWDS: Final = 256
MAX_SOURCES: Final = 1024
MAX_PORTS: Final = 4096
"""Remembered of one crowd; what is beyond changes no answer."""

Fingerprint = tuple[bytes, int, bytes]


class Twins:
    """Same probe, same moment, several sources."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[bytes, bytes], tuple[float, list[Source]]] = OrderedDict()

    def observe(self, packet: Packet, source: Source, now: float) -> list[Source]:
        """The group that sent this probe within the last moment, this source included."""
        if packet.protocol == TCP:
            same = packet.payload[packet.transport : packet.transport + 8]  # ports, sequence
        elif packet.protocol == UDP:
            same = packet.payload[packet.transport : packet.transport + 6]  # ports, length
        else:
            return []
        key = (packet.target, same)
        found = self._keys.get(key)
        if found is None or now - found[0] > MOMENT:
            self._keys[key] = (now, [source])
            self._keys.move_to_end(key)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
            return []
        group = found[1]
        if source not in group and len(group) < MAX_GROUP:
            group.append(source)
        return group if len(group) > 1 else []


class Crowd:
    """What one fingerprint did to one target within CROWD_WINDOW."""

    __slots__ = ("born", "flagged", "ports", "probes", "sources")

    def __init__(self, now: float) -> None:
        self.born = now
        self.probes = 0
        self.ports: set[int] = set()
        self.sources: set[Source] = set()
        self.flagged = False

    def is_scan(self) -> bool:
        return (
            len(self.sources) >= CROWD_SOURCES
            and len(self.ports) >= CROWD_PORTS
            and self.probes <= len(self.ports) * CROWD_OVERLAP
            and self.probes >= len(self.sources) * 2
        )


class Crowds:
    """Crowds by target and fingerprint, the least recent given up first."""

    def __init__(self) -> None:
        self._crowds: OrderedDict[Fingerprint, Crowd] = OrderedDict()

    def observe(self, packet: Packet, probe: Probe, now: float) -> Crowd | None:
        """The crowd that this probe belongs to, if it is a distributed scan by now."""
        if packet.protocol != TCP:
            return None
        at = packet.transport
        look = packet.payload[at + 12 : at + 16] + packet.payload[at + 20 : at + 28]
        key = (packet.target, packet.flags, look)  # offset, flags, window; first options
        crowd = self._crowds.pop(key, None)
        if crowd is None or now - crowd.born > CROWD_WINDOW:
            crowd = Crowd(now)
        self._crowds[key] = crowd
        if len(self._crowds) > MAX_CROWDS:
            self._crowds.popitem(last=False)
        if len(crowd.sources) < MAX_SOURCES and len(crowd.ports) < MAX_PORTS:
            crowd.sources.add(probe.source)
            crowd.ports.add(packet.dport)
        crowd.probes += 1
        return crowd if crowd.flagged or crowd.is_scan() else None
