"""Learn what a member with full trust has learnt: a standby knows the clients.

See docs/decisions.md: fleet-pair.
"""

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import KernelError, SentryError
from sentryfw.fleet.admission import Admission, Reason, Rejected
from sentryfw.fleet.entry import Elements
from sentryfw.netfilter.sets.mirror import KEY_BYTES, TIMEOUTS_S
from sentryfw.netfilter.table import Table
from sentryfw.record.fleet import mirror
from sentryfw.record.ledger import Ledger

log: Final = logging.getLogger("sentryfwd")


class Learner:
    """Adds elements of other members to the learnt sets."""

    def __init__(self, ledger: Path, admission: Admission) -> None:
        self._ledger = ledger
        self._admission = admission

    def admit(self, table: Table, given: Elements, wall: float) -> dict[str, Any] | str:
        """Learn the elements of a statement; return the answer, or the reason for a refusal."""
        left = self._admission.admit_elements(given, wall)
        if isinstance(left, Rejected):
            return left.reason
        count = self._learn(table, given.name, left, wall)
        if isinstance(count, str):
            return self._admission.refuse(given.member, count).reason
        self._admission.standings[given.member].learnt += count
        return {"member": given.member, "seq": given.seq, "effect": "learn"}

    def _learn(
        self, table: Table, name: str, left: Mapping[bytes, float], wall: float
    ) -> int | Reason:
        """Add elements, each with the seconds left of it; return how many, or why none is.

        They are noted first: what the note lacks would be sent back to the member it came from.
        """
        size = KEY_BYTES.get(name)
        if size is None or any(len(key) != size for key in left):
            return "bad-set"
        try:
            if not table.mirror.has_room(name):
                return "full"
            limit = TIMEOUTS_S[name]
            given = [(key, min(seconds, limit)) for key, seconds in left.items()]
            with Ledger(self._ledger) as ledger, ledger.transaction():
                mirror.note(ledger, name, ((key, wall + seconds) for key, seconds in given))
            return table.mirror.learn(name, given)
        except (KernelError, SentryError, sqlite3.Error) as error:
            log.error("fleet: %s was not learnt: %s", name, error)
            return "full"
