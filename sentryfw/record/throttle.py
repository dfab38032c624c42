"""Bounds of events and log by rate: an attacker chooses how many decisions there are.

Events of one kind are written one by one up to a number a second; the others of that second are
counted in one event, `summary`, with a sample. Lines of the log have a budget of their own, which
fills slowly: a log is read by people, and kept by programs that do not bound it.

See docs/decisions.md: event-rotation.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from sentryfw.record.events import render_entry, render_note, render_origin, render_reaction
from sentryfw.record.records import DecisionRecord, Located, Named, Reaction, entry_fields

INTERVAL_S: Final = 1.0
MAX_SAMPLE: Final = 5
"""Addresses that a summary names."""
FLEET: Final = "fleet"
"""Kind of the event about an entry of a member."""
DISTRIBUTED: Final = "distributed-scan"
"""Kind of the event about a distributed scan."""
LISTED: Final = "listed-scan"
"""Kind of the event about a silent scan of listed ports."""
LOG_BURST: Final = 100
"""Lines of one kind that are logged at once."""
LOG_LINES_PER_S: Final = 0.5
"""Lines by which the budget of one kind grows: at most 20 MB a day in all."""
LOG_INTERVAL_S: Final = 60.0
"""Seconds between two log messages about lines that were left out."""

log: Final = logging.getLogger("sentryfwd")


def kind_of(item: object) -> str | None:
    """Return the kind of an item's event; None if it has none."""
    if isinstance(item, DecisionRecord):
        return "blocked" if item.blocked else "refused"
    if isinstance(item, Reaction):
        return "reaction"
    if isinstance(item, Named):
        return "host"
    if isinstance(item, Located):
        return "origin"
    return str(item["sentryfw"]["event"]) if isinstance(item, dict) else None


def _render(item: object) -> dict[str, Any]:
    if isinstance(item, DecisionRecord):
        return render_entry(item)
    if isinstance(item, Reaction):
        return render_reaction(item)
    if isinstance(item, Named):
        return render_note("host", item.at, **item._asdict())
    if isinstance(item, Located):
        return render_origin(item)
    assert isinstance(item, dict)  # noqa: S101 - it has a kind
    return item


class EventThrottle:
    """Renders the events of a second, as many as are written one by one."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        """Events of one kind in a second."""
        self._began = float("-inf")
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._sample: dict[str, None] = {}

    @property
    def is_pending(self) -> bool:
        """Whether a summary is to be written."""
        return bool(self._left_out)

    def take(self, items: Iterable[object], now: float, wall: float) -> list[dict[str, Any]]:
        """Return the events of these items, and the summary of the second before, if it is due.

        `now`: a clock value; `wall`: seconds since the epoch.
        """
        events = self.flush(now, wall) if now - self._began >= INTERVAL_S else []
        for item in items:
            kind = kind_of(item)
            if kind is None:
                continue
            if self._written[kind] < self.per_second:
                self._written[kind] += 1
                events.append(_render(item))
            else:
                self._leave_out(kind, item)
        return events

    def flush(self, now: float, wall: float) -> list[dict[str, Any]]:
        """Begin another second; return the summary of the last one, if it has one."""
        made = []
        if self._left_out:
            made.append(
                render_note(
                    "summary", wall, seconds=round(now - self._began, 3),
                    left_out=dict(self._left_out), reasons=dict(self._reasons),
                    sample=list(self._sample),
                )
            )  # fmt: skip
        self._began = now
        for counter in (self._written, self._left_out, self._reasons):
            counter.clear()
        self._sample.clear()
        return made

    def _leave_out(self, kind: str, item: object) -> None:
        self._left_out[kind] += 1
        if isinstance(item, DecisionRecord):
            self._reasons[item.scan if item.blocked else item.reason] += 1
        fields = item["sentryfw"] if isinstance(item, dict) else {}
        if kind == FLEET:
            self._reasons[f"{fields['member']} {fields['effect']}"] += 1
        address = fields.get("address") or getattr(item, "address", "")
        if address and len(self._sample) < MAX_SAMPLE:
            self._sample[address] = None


class LogThrottle:
    """Logs decisions and reactions, each kind within a budget of lines."""

    def __init__(self) -> None:
        self._budgets: dict[str, float] = {}
        self._filled_at = 0.0
        self._left_out: Counter[str] = Counter()
        self._reported_at = float("-inf")

    @property
    def is_pending(self) -> bool:
        """Whether left-out lines are to be reported."""
        return bool(self._left_out)

    def log(self, items: Iterable[object], now: float) -> None:
        """Log these items, and from time to time how many were left out."""
        grown = max(0.0, now - self._filled_at) * LOG_LINES_PER_S
        self._filled_at = now
        for kind, budget in self._budgets.items():
            self._budgets[kind] = min(float(LOG_BURST), budget + grown)
        for item in items:
            if isinstance(item, DecisionRecord | Reaction) or kind_of(item) in (
                DISTRIBUTED,
                LISTED,
            ):
                self._log(item)
        if self._left_out and now - self._reported_at >= LOG_INTERVAL_S:
            self._reported_at = now
            counts = ", ".join(f"{count} {kind}" for kind, count in self._left_out.items())
            log.warning("too many to log one by one: %s", counts)
            self._left_out.clear()

    def _log(self, item: object) -> None:
        kind = kind_of(item) or ""
        budget = self._budgets.get(kind, float(LOG_BURST))
        if budget < 1:
            self._left_out[kind] += 1
            return
        self._budgets[kind] = budget - 1
        if isinstance(item, DecisionRecord):
            _log_decision(item)
        elif isinstance(item, Reaction):
            _log_reaction(item)
        elif kind == LISTED and isinstance(item, dict):
            _log_listed(item["sentryfw"])
        elif isinstance(item, dict):
            _log_distributed(item["sentryfw"])


def _log_decision(record: DecisionRecord) -> None:
    scan = f"{record.scan} ({', '.join(record.kinds)})"
    if record.blocked:
        log.info(
            "blocked %s for %ds: %s, %s, offence %d",
            record.address, record.timeout_s, scan, record.reason, record.offence,
            extra=entry_fields(record),
        )  # fmt: skip
    elif record.confined:
        log.info(
            "confined the partner %s for %ds to what it uses: %s, %s, offence %d",
            record.address, record.timeout_s, scan, record.reason, record.offence,
            extra=entry_fields(record),
        )  # fmt: skip
    else:
        log.info(
            "not blocked %s: %s, because: %s", record.address, scan, record.reason,
            extra=entry_fields(record),
        )  # fmt: skip


def _log_distributed(fields: dict[str, Any]) -> None:
    what = f"{len(fields['sources'])} sources or more, {len(fields['targets'])} targets"
    then = "strangers wait a second" if fields["deferred_s"] else "nothing is done about it"
    if fields["blocked_s"]:
        then = f"strangers of it are dropped for {fields['blocked_s']:.0f}s"
    log.warning("distributed-scan of or at %s: %s; %s", fields["place"], what, then)


def _log_listed(fields: dict[str, Any]) -> None:
    log.warning(
        "listed-scan by %s: it opened many listed ports and sent nothing, to %s among them;"
        " nothing is done about it", fields["address"], ", ".join(map(str, fields["ports"])),
    )  # fmt: skip


def _log_reaction(reaction: Reaction) -> None:
    about = f" to {reaction.address}" if reaction.address else ""
    if reaction.ok:
        log.info("%s%s: %s", reaction.reaction, about, reaction.detail)
    else:
        log.error("%s%s failed: %s", reaction.reaction, about, reaction.detail)
