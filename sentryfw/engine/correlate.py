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

from typing import Final

from sentryfw.engine.model import Group, Packet, Probe, Source
from sentryfw.engine.packet import TCP, UDP

MOMENT: Final = 1.0
"""Seconds of a generation of probes; the same moment is one generation to two."""
MAX_KEYS: Final = 8192
"""Probes of a generation: in a flood a moment is shorter."""
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


class Twins:
    """Same probe, same moment, several sources."""

    def __init__(self) -> None:
        self._born = 0.0
        self._now: dict[bytes, Source | Group] = {}
        self._before: dict[bytes, Source | Group] = {}

    def observe(self, packet: Packet, source: Source, now: float) -> Group | None:
        """The group that sent this probe within the last moment, this source included."""
        # From the destination address on: what follows up to the transport header is the same
        # for the same sender, then come ports, sequence numbers and flags, or ports and length.
        if packet.protocol == TCP:
            end = packet.transport + 14
        elif packet.protocol == UDP:
            end = packet.transport + 6
        else:
            return None
        if now - self._born > MOMENT or len(self._now) >= MAX_KEYS:
            stale = now - self._born > 2 * MOMENT
            self._before, self._now, self._born = ({} if stale else self._now), {}, now
        key = packet.payload[16 if len(packet.source) == 4 else 24 : end]
        home = self._now if key in self._now else self._before
        seen = home.get(key)
        if seen is None:
            self._now[key] = source
            return None
        if isinstance(seen, bytes):  # one as yet, as of most probes
            if seen == source:
                return None
            seen = home[key] = {seen: None}
        if len(seen) < MAX_GROUP:
            seen[source] = None
        return seen


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
        self._crowds: dict[bytes, Crowd] = {}

    def observe(self, packet: Packet, probe: Probe, now: float) -> Crowd | None:
        """The crowd that this probe belongs to, if it is a distributed scan by now."""
        if packet.protocol != TCP:
            return None
        at = packet.transport
        # Data offset, flags and window; destination address and the first options beside it.
        key = packet.payload[at + 12 : at + 16] + packet.target + packet.payload[at + 20 : at + 28]
        crowd = self._crowds.pop(key, None)
        if crowd is None or now - crowd.born > CROWD_WINDOW:
            crowd = Crowd(now)
        self._crowds[key] = crowd
        if len(self._crowds) > MAX_CROWDS:
            del self._crowds[next(iter(self._crowds))]
        if len(crowd.sources) < MAX_SOURCES and len(crowd.ports) < MAX_PORTS:
            crowd.sources.add(probe.source)
            crowd.ports.add(packet.dport)
        crowd.probes += 1
        return crowd if crowd.flagged or crowd.is_scan() else None
