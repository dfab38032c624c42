"""The screen of `watch`: what is shown, and what keys do to it. Pure: no terminal in here.

Lines are ASCII, so that a character is a column on every terminal; nothing is told by colour
alone.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sentryfw import __version__
from sentryfw.cli.output import cell, duration
from sentryfw.cli.watch_look import View, total

BARS: Final = " .:-=+*#%@"
KEYS: Final = "q quit  arrows select  u unblock  a allow  e explain"
BLOCKED_SHARE: Final = 0.6
"""Of the lines that both lists have."""
TITLES: Final = 3
"""Lines: one above each list, one between them."""
PAGE: Final = 10

Item = dict[str, Any]


class Line(NamedTuple):
    text: str
    style: str = ""
    """In rich's words."""


class Action(NamedTuple):
    """What an operator wants done."""

    what: str
    """ "unblock", "allow", "explain"."""
    address: str


class Screen:
    """Where the operator is in it."""

    def __init__(self, *, history: bool = True) -> None:
        """`history`: whether there are looks before the one that is shown."""
        self.view: View | None = None
        self._history = history
        self.message = ""
        self._selected: str | None = None
        self._asked: Action | None = None
        self._story: list[str] | None = None
        self._scroll = 0

    # --- keys

    def key(self, key: str) -> Action | None:
        """What is to be done because of a key; quitting is not decided here."""
        self.message = ""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            return asked if key in {"y", "Y"} else None
        if self._story is not None:
            self._read(key)
            return None
        step = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -PAGE, "pagedown": PAGE}.get(key)
        if step is not None:
            self._move(step)
        return self._wanted(key)

    def tell(self, story: list[str]) -> None:
        """Show the answer to "explain"."""
        self._story, self._scroll, self.message = story, 0, ""

    def _wanted(self, key: str) -> Action | None:
        what = {"u": "unblock", "a": "allow", "e": "explain", "enter": "explain"}.get(key)
        address = self._address()
        if what is None:
            return None
        if address is None:
            self.message = "nothing is selected: arrows select"
            return None
        action = Action(what, address)
        if what == "explain":
            self.message = f"looking up {address} ..."
            return action
        if what == "unblock" and address not in _addresses(self._blocks()):
            self.message = f"{address} is not blocked"
            return None
        self._asked = action
        return None

    def _read(self, key: str) -> None:
        if key in {"escape", "e", "enter", "q"}:
            self._story = None
            return
        step = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -PAGE, "pagedown": PAGE}.get(key, 0)
        last = max(0, len(self._story or ()) - 1)
        self._scroll = min(max(0, self._scroll + step), last)

    @property
    def is_reading(self) -> bool:
        """Whether a story is shown, which q leaves."""
        return self._story is not None

    def _move(self, step: int) -> None:
        addresses = [*_addresses(self._blocks()), *_addresses(self._sources())]
        if not addresses:
            return
        if self._selected not in addresses:
            self._selected = addresses[0]
            return
        at = addresses.index(self._selected) + step
        self._selected = addresses[min(max(0, at), len(addresses) - 1)]

    def _address(self) -> str | None:
        known = {*_addresses(self._blocks()), *_addresses(self._sources())}
        return self._selected if self._selected in known else None

    def _blocks(self) -> list[Item]:
        return self.view.blocks if self.view else []

    def _sources(self) -> list[Item]:
        return self.view.sources if self.view else []

    # --- lines

    def lines(self, width: int, height: int) -> list[Line]:
        """What fits: at most `height` lines of at most `width` columns."""
        made = [] if self.view is None else self._head(self.view)
        room = max(0, height - len(made) - 1)
        if self.view is None:
            body = [Line("looking ...")]
        elif self._story is not None:
            body = [Line(_ascii(text)) for text in self._story[self._scroll : self._scroll + room]]
        elif self.view.fault:
            body = [Line(_ascii(text), "bold") for text in self.view.fault.split("\n")]
        else:
            body = self._lists(self.view, room)
        body = body[:room] + [Line("")] * (room - len(body))
        made = [*made, *body][: max(0, height - 1)]
        return [Line(text[:width], style) for text, style in [*made, self._foot()]]

    def _head(self, view: View) -> list[Line]:
        daemon = view.daemon
        state = f"daemon running (pid {daemon.get('pid')})" if daemon else "daemon NOT RUNNING"
        clock = time.strftime("%H:%M:%S", time.localtime(view.at))
        title = f"SentryFW {__version__}  {clock}  {state}  divert {view.divert or '-'}"
        lines = [Line(title, "bold"), *(_figures(view) if not view.fault else [])]
        if self._history and not view.fault:
            lines.append(_minute(view.probes))
        lines += [Line("")] if not view.fault else []
        remarks = [*view.warnings, *_faults(daemon)]
        if remarks:
            lines.append(Line(f"! {_ascii('; '.join(remarks))}", "bold"))
        return lines

    def _lists(self, view: View, room: int) -> list[Line]:
        free = room - TITLES
        upper = max(1, len(view.blocks))
        upper = min(upper, max(free - len(view.sources), math.ceil(free * BLOCKED_SHARE)))
        lower = free - upper
        if free < TITLES:  # no room for two lists
            upper, lower = room - 1, 0
        shown = f"{len(view.blocks)} of {_count(view.blocked)}" if view.blocks else "nobody"
        lines = [Line(f"BLOCKED, newest first ({shown})", "bold")]
        lines += self._rows(view.blocks, upper, _block)
        if lower > 0:
            shown = _shown(len(view.sources), view.daemon.get("tracked_sources", 0))
            title = f"ON THEIR WAY to the trigger ({shown})"
            lines += [Line(""), Line(title, "bold")]
            lines += self._rows(view.sources, lower, _source)
        return lines

    def _rows(self, items: Sequence[Item], room: int, row: Callable[[Item], str]) -> list[Line]:
        """As many as fit, the selected one among them."""
        addresses = _addresses(items)
        at = addresses.index(self._selected) if self._selected in addresses else 0
        first = max(0, at - room + 1)
        made = []
        for item in items[first : first + room]:
            is_selected = item["address"] == self._selected
            marker = "> " if is_selected else "  "
            made.append(Line(marker + _ascii(row(item)), "reverse" * is_selected))
        return made

    def _foot(self) -> Line:
        if self._asked is not None:
            what = "never block" if self._asked.what == "allow" else self._asked.what
            return Line(f"{what} {self._asked.address}? y/n", "bold")
        if self.message:
            return Line(_ascii(self.message), "bold")
        return Line("arrows scroll  e or Esc back" if self.is_reading else KEYS)


def story(found: Item, rows: Sequence[Item]) -> list[str]:
    """What `explain` found, as lines."""
    lines = [f"{found['address']}: {found.get('because', '')}"]
    for row in rows:
        words = (str(row["at"])[:19].replace("T", " "), row["what"], row["kind"], row["target"],
                 row["why"])  # fmt: skip
        lines.append("  ".join(cell(word) for word in words if word))
    return lines


def _figures(view: View) -> list[Line]:
    rates, counters, daemon = view.rates, view.counters, view.daemon
    dropped = total(rates, ("blocked_early", "blocked_late"))
    flood = "ON: one packet blocks nobody" if daemon.get("flood") else "off"
    ever = counters.get("blocked_early", 0) + counters.get("blocked_late", 0)
    lost = daemon.get("overload", {})
    records = daemon.get("lost_records", 0)
    queue = daemon.get("queue", {})
    waiting = f"{view.queue['waiting']:,}" if "waiting" in view.queue else "?"
    losses = [f"{kind} {n:,}" for kind, n in lost.items() if n]
    losses += [f"records lost {records:,}"] if records else []
    losses += [f"unjudged {queue['failures']:,}"] if queue.get("failures") else []
    return [
        Line(
            f"probes   {_rate(rates, 'judged')}   dropped, too many of one source"
            f" {_rate(rates, 'over_source')}, in all {_rate(rates, 'over_limit')}"
        ),
        Line(f"dropped  {dropped:,.0f}/s of who is blocked ({ever:,} since install)"),
        Line(
            f"blocked  {_count(view.blocked)} now   half-seen"
            f" {daemon.get('tracked_sources', 0):,}   flood {flood}"
        ),
        Line(
            f"queue    {waiting} of {queue.get('max_len', 0):,} wait   {', '.join(losses) or 'ok'}",
            "bold" if losses else "",
        ),
    ]


def _minute(probes: Sequence[float]) -> Line:
    return Line(f"minute   [{_bars(probes)}] peak {max(probes, default=0):,.0f}/s")


def _faults(daemon: Item) -> list[str]:
    return [f"{name}: {fault}" for name, fault in daemon.get("faults", {}).items()]


def _block(item: Item) -> str:
    left = duration(item["expires_in_s"]) if item["timeout_s"] else "for good"
    why = item["reason"] if not item["scan"] else f"{item['scan']}: {','.join(item['kinds'])}"
    tool = "" if item["tool"] in {"", "unknown"} else f" by {item['tool']}"
    return f"{item['address']:<20} {left:>8} {item['dropped_packets']:>9,} dropped  {why}{tool}"


def _source(item: Item) -> str:
    percent = f"{item['progress'] * 100:.0f}%"
    targets = "target " if item["targets"] == 1 else "targets"
    probes = "probe " if item["probes"] == 1 else "probes"
    return (
        f"{item['address']:<20} {percent:>5} {item['targets']:>3} {targets}"
        f" {item['probes']:>5} {probes}  {duration(item['idle_s']):>6} ago"
        f"  {','.join(item['kinds'])}"
    )


def _bars(rates: Sequence[float]) -> str:
    peak = max(rates, default=0)
    if not peak:
        return " " * len(rates)
    top = len(BARS) - 1
    return "".join(BARS[min(top, -(-int(rate * top) // max(1, int(peak))))] for rate in rates)


def _rate(rates: dict[str, float], name: str) -> str:
    return f"{rates[name]:,.0f}/s" if name in rates else "-"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _shown(here: int, all_of_them: int) -> str:
    return f"{here} of {all_of_them:,}" if all_of_them > here else str(here)


def _addresses(items: Sequence[Item]) -> list[str]:
    return [item["address"] for item in items]


def _ascii(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)
