"""The zone of a packet, by the number of the interface that it came in by.

The queue delivers a number; the configuration has names and patterns. Each number is looked up
once a second at most, so that a renamed interface, or another one with its number, is judged by its
own zone a second later.
"""

import socket

from sentryfw.config.types import matches
from sentryfw.engine.correlate.zones import Zones


class ZoneInterfaces:
    """Finds the zone of an interface; the default zone for all that no zone names."""

    def __init__(self, zones: Zones) -> None:
        self.use(zones)

    def use(self, zones: Zones) -> None:
        """Find the zones of another configuration."""
        self._patterns = [zone.interfaces for zone in zones.all]
        self.names = [zone.name for zone in zones.all]
        self.has_zones = len(self._patterns) > 1
        """Whether there are zones besides the default one."""
        self._known: dict[int, int] = {}

    def tick(self) -> None:
        """Look each interface up again; called once a second."""
        self._known.clear()

    def zone(self, interface: int) -> int:
        """Return the zone of an interface, as an index of Zones.all."""
        known = self._known.get(interface)
        if known is None:
            known = self._known[interface] = self._look_up(interface)
        return known

    def _look_up(self, interface: int) -> int:
        try:
            name = socket.if_indextoname(interface)
        except OSError:  # it is gone, or the packet has none
            return 0
        return next((n for n, patterns in enumerate(self._patterns) if matches(name, patterns)), 0)
