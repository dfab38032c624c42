"""CrowdSec's decisions as the words of one more member.

No signature is needed: the configuration names the API, and its answer comes over that connection.
What a decision is worth is the admission's choice, as for an entry of a firewall. All of it runs in
the thread of the control socket.

See docs/decisions.md: crowdsec-member.
"""

import math
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from sentryfw.config.fleet import FleetCrowdsec
from sentryfw.daemon.fleet.intake import Intake
from sentryfw.fleet.admission import Admitted, Standing
from sentryfw.fleet.entry import MAX_REASON, Entry
from sentryfw.respond.neighbours.decisions import Bounds, Decision, HeldDecision
from sentryfw.respond.neighbours.stream import Query
from sentryfw.text import plain

HAND_SHARE: Final = 4
"""A quarter of the sources and of the credit is kept for decisions by hand."""
MAX_COMPARE_S: Final = 3600.0
"""Seconds from one comparison to the next: it reads all that the API has."""
COMPARE_SHARE: Final = 4
"""A comparison each quarter of the longest time: a decision that lasts on has no gap here."""


class Reach(NamedTuple):
    """State of the API. Times are seconds since the epoch."""

    fault: str
    """Empty while it answers, and before the first question."""
    since: float
    """Time from which that is so."""
    asked_at: float | None = None
    """Time of its last answer."""
    left_out: int = 0
    """Its decisions for which there was no place at the last comparison."""
    answers: int = 0
    """Number of its answers."""


class CrowdsecMember:
    """The decisions of CrowdSec that are in effect."""

    def __init__(self, config: FleetCrowdsec, intake: Intake) -> None:
        self.config = config
        self._intake = intake
        self._taken: dict[str, float] = {}
        """Clock values at which what was taken ends, also of what was unblocked by hand since."""
        self.reach = Reach("", time.time())

    @property
    def compare_s(self) -> float:
        """Seconds from one comparison to the next."""
        return min(MAX_COMPARE_S, self.config.max_time / COMPARE_SHARE)

    @property
    def _standing(self) -> Standing:
        return self._intake.standings[self.config.name]

    def query(self, *, compare: bool) -> Query:
        """Return what to ask for."""
        now = time.monotonic()
        self._intake.follow_released()
        standing, most = self._standing, self.config.max_alive
        standing.expire(now)
        self._taken |= {address: alive.end for address, alive in standing.alive.items()}
        self._taken = {address: end for address, end in self._taken.items() if end > now}
        held = {
            address: HeldDecision(alive.end - now, alive.cut)
            for address, alive in standing.alive.items()
        }
        others = sum(not one.by_hand for one in held.values())
        reserve = most // HAND_SHARE
        bounds = Bounds(
            max_s=self.config.max_time, room=max(0, most - reserve - others),
            credit=standing.earn(now), renew_s=2 * self.compare_s, reserve=reserve,
        )  # fmt: skip
        lifted = [address for address in self._taken if address not in held]
        return Query(compare, held, lifted, bounds)

    def take(self, gone: Sequence[str], new: Sequence[Decision]) -> None:
        """End what has ended, and admit what is new. Raise SentryError."""
        now, wall = time.monotonic(), time.time()
        made = [*map(self._withdraw, gone), *map(self._block, new)]
        admitted: list[Admitted] = []
        with self._intake.open() as table:
            for entry in made:
                numbered = entry._replace(seq=self._standing.last + 1, at=int(wall))
                found = self._intake.admission.admit(numbered, now, wall)
                if isinstance(found, Admitted):
                    admitted.append(found)
                else:
                    self._intake.refused += 1
            for _ in self._intake.apply(table, admitted, now, wall):
                pass  # each fault is in the log; a repair of the table adds what it lacks
        self._intake.report(now, {})

    def count(self, refused: Mapping[str, int]) -> None:
        """Count decisions that are not taken, by the reason."""
        self._standing.refused.update(refused)
        self._intake.refused += sum(refused.values())
        self._intake.report(time.monotonic(), {})

    def status(self) -> dict[str, Any]:
        """Return its part of the fleet's status. Any thread may call it."""
        reach, now = self.reach, time.time()
        return {
            "member": self.config.name,
            "fault": reach.fault,
            "fault_s": max(0.0, now - reach.since) if reach.fault else 0.0,
            "answered_s": None if reach.asked_at is None else max(0.0, now - reach.asked_at),
            "answers": reach.answers,
            "left_out": reach.left_out,
        }

    def _withdraw(self, address: str) -> Entry:
        self._taken.pop(address, None)
        return Entry(
            op="withdraw", member=self.config.name, seq=0, network=ip_network(address),
            duration_s=0, evidence="hand", scan="", reason="", at=0,
        )  # fmt: skip

    def _block(self, decision: Decision) -> Entry:
        reason = f"{decision.origin}: {decision.scenario}" if decision.scenario else decision.origin
        return Entry(
            op="block", member=self.config.name, seq=0, network=ip_network(decision.address),
            duration_s=math.ceil(decision.seconds),
            evidence="hand" if decision.by_hand else "forgeable", scan="",
            reason=plain(reason).encode("ascii", "replace").decode()[:MAX_REASON], at=0,
        )  # fmt: skip
