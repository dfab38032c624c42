"""Confinement as long as it is possible: it cuts a partner off from what the table did not learn.

Partners are not confined for a day after an older table was replaced, which did not know what they
use, nor while the served sets have hardly room. Their scans are then refused, as before.

See docs/decisions.md: confine.
"""

import logging
from collections import Counter
from typing import Final

from sentryfw.daemon.overload import Loss
from sentryfw.engine.engine import Engine
from sentryfw.errors import SentryError
from sentryfw.netfilter.schema import (
    PARTNER_SET_SIZE,
    PARTNER_SETS,
    SERVED_SET_SIZE,
    SERVED_SETS,
    SERVED_UDP_SET_SIZE,
    SERVED_UDP_SETS,
)
from sentryfw.netfilter.table import Table
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

PERIOD_S: Final = 10
"""Seconds between two readings; a tick is a second."""
FULL_SHARE: Final = 0.9
"""Share of a set's size from which on it counts as full, and partners are not confined."""
SIZES: Final = {
    **dict.fromkeys(PARTNER_SETS, (PARTNER_SET_SIZE, Loss.PARTNER_SET_FULL)),
    **dict.fromkeys(SERVED_SETS, (SERVED_SET_SIZE, Loss.SERVED_SET_FULL)),
    **dict.fromkeys(SERVED_UDP_SETS, (SERVED_UDP_SET_SIZE, Loss.SERVED_SET_FULL)),
}
"""The learnt sets, with their sizes."""


class ConfineWatch:
    """Decides whether partners are confined; reads the table every PERIOD_S."""

    def __init__(self, engine: Engine, table: Table, recorder: Recorder) -> None:
        self._engine = engine
        self._table = table
        self._recorder = recorder
        self._ticks = 0
        self.obstacle = ""
        """The reason why partners are not confined; empty if they are."""
        self.full: Counter[Loss] = Counter()
        """Readings at which a learnt set had hardly room."""

    def tick(self) -> None:
        """Read the table if it is time; called once a second and at the start."""
        self._ticks -= 1
        if self._ticks >= 0:
            return
        self._ticks = PERIOD_S
        try:
            full = self._find_full()
            self._set(self._find_obstacle() or full)
        except SentryError:
            return  # the table is being repaired: as it was until the next look

    def _find_obstacle(self) -> str:
        if self._table.decisions.is_paused():
            return "the table was made from an older one less than a day ago"
        return ""

    def _find_full(self) -> str:
        """Count the learnt sets with hardly room; return what is wrong with a served set."""
        found = ""
        for name, (size, loss) in SIZES.items():
            count = self._table.decisions.count(name)
            if count is not None and count >= size * FULL_SHARE:
                self.full[loss] += 1
                if name in SERVED_SETS:
                    found = f"set {name} is {count * 100 // size} % full"
        return found

    def _set(self, obstacle: str) -> None:
        # A reload makes a new policy, so it is set at each look.
        for zone in self._engine.zones.all:
            zone.decider.confine(is_possible=not obstacle)
        if bool(obstacle) != bool(self.obstacle):
            if obstacle:
                self._recorder.note("confine-paused", reason=obstacle)
                log.warning(
                    "partners are not confined, their scans are only reported: %s", obstacle
                )
            else:
                self._recorder.note("confine-resumed")
                log.info("partners that scan are confined again")
        self.obstacle = obstacle
