"""The screen of `watch`: its lines, and the effect of keys. Pure: it uses no terminal.

Lines are ASCII, so that a character is a column on every terminal; no information is in colour
alone.
"""

import math
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sentryfw import __version__
from sentryfw.cli.commands.watch.keys import HELP, KEYS
from sentryfw.cli.commands.watch.state import View, total
from sentryfw.cli.phrases import finding, left
from sentryfw.text import cell, duration, local_clock, zone

BARS: Final = " .:-=+*#%@"
BLOCKED_SHARE: Final = 0.6
"""The share of the list of blocks in the lines of both lists."""
TITLE_LINES: Final = 3
"""One above each list, one between them."""
PAGE_LINES: Final = 10

Item = dict[str, Any]


class ScreenLine(NamedTuple):
    """A line of the screen."""

    text: str
    style: str = ""
    """A style of rich."""


class Action(NamedTuple):
    """An action that the operator confirmed, or an explanation that was asked for."""

    what: str
    """ "unblock", "allow", "explain"."""
    address: str


class Screen:
    """The selection, the question and the story on the screen."""

    def __init__(self, *, history: bool = True) -> None:
        """`history`: show the rates of the last minute."""
        self.view: View | None = None
        self._history = history
        self.message = ""
        self._selected: str | None = None
        self._at = 0
        """Row of the selected source, in both lists together."""
        self._asked: Action | None = None
        self._story: list[str] | None = None
        self._scroll = 0

    # --- keys

    def key(self, key: str) -> Action | None:
        """Apply a key, and return the action that it confirms; the caller handles quitting."""
        self.message = ""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            return asked if key in {"y", "Y"} else None
        if self._story is not None:
            self._read(key)
            return None
        step = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "pageup": -PAGE_LINES,
            "pagedown": PAGE_LINES,
        }.get(key)
        if step is not None:
            self._move(step)
        if key in {"?", "h"}:
            self.show_story(list(HELP))
        return self._wanted(key)

    def show_story(self, story: list[str]) -> None:
        """Show the lines of an explanation."""
        self._story, self._scroll, self.message = story, 0, ""

    def _wanted(self, key: str) -> Action | None:
        what = {"u": "unblock", "a": "allow", "e": "explain", "enter": "explain"}.get(key)
        address = self._address()
        if what is None:
            return None
        if address is None:
            self.message = "no source is selected: use the arrow keys"
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
        step = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "pageup": -PAGE_LINES,
            "pagedown": PAGE_LINES,
        }.get(key, 0)
        last = max(0, len(self._story or ()) - 1)
        self._scroll = min(max(0, self._scroll + step), last)

    @property
    def is_reading(self) -> bool:
        """Whether a story is shown; `q` leaves it."""
        return self._story is not None

    def _move(self, step: int) -> None:
        addresses = self._rows_of_both()
        if not addresses:
            return
        if self._selected not in addresses:
            self._select(addresses, 0)
            return
        self._select(addresses, addresses.index(self._selected) + step)

    def _keep_selection(self) -> None:
        """Select the row in the place of a selected one that has gone."""
        addresses = self._rows_of_both()
        if self._selected in addresses:
            self._at = addresses.index(self._selected)
        elif self._selected is not None and addresses:
            self._select(addresses, self._at)

    def _select(self, addresses: list[str], at: int) -> None:
        self._at = min(max(0, at), len(addresses) - 1)
        self._selected = addresses[self._at]

    def _rows_of_both(self) -> list[str]:
        return [*_addresses(self._blocks()), *_addresses(self._sources())]

    def _address(self) -> str | None:
        known = {*_addresses(self._blocks()), *_addresses(self._sources())}
        return self._selected if self._selected in known else None

    def _blocks(self) -> Sequence[Item]:
        return self.view.blocks if self.view else ()

    def _sources(self) -> Sequence[Item]:
        return self.view.sources if self.view else ()

    # --- lines

    def lines(self, width: int, height: int) -> list[ScreenLine]:
        """Return at most `height` lines of at most `width` columns."""
        if self._asked is None:  # a question names the source that it is about
            self._keep_selection()
        made = [] if self.view is None else self._head(self.view, width)
        room = max(0, height - len(made) - 1)
        if self.view is None:
            body = [ScreenLine("reading ...")]
        elif self._story is not None:
            lines = _wrapped(self._story, width)
            body = [ScreenLine(text) for text in lines[self._scroll : self._scroll + room]]
        elif self.view.fault:
            body = [ScreenLine(_ascii(text), "bold") for text in self.view.fault.split("\n")]
        else:
            body = self._lists(self.view, room)
        body = body[:room] + [ScreenLine("")] * (room - len(body))
        made = [*made, *body][: max(0, height - 1)]
        return [ScreenLine(_cut(text, width), style) for text, style in [*made, self._foot()]]

    def _head(self, view: View, width: int) -> list[ScreenLine]:
        daemon = view.daemon
        state = f"daemon running (pid {daemon.get('pid')})" if daemon else "daemon NOT RUNNING"
        clock = time.strftime("%H:%M:%S", time.localtime(view.at))
        title = f"SentryFW {__version__}  {clock}  {state}  divert {view.divert or '-'}"
        lines = [ScreenLine(title, "bold"), *(_figures(view) if not view.fault else [])]
        if self._history and not view.fault:
            lines.append(_minute(view.probes))
        lines += [ScreenLine("")] if not view.fault else []
        remarks = [*view.warnings, *_faults(daemon)]
        if remarks:
            text = f"! {'; '.join(remarks)}"
            lines += [ScreenLine(part, "bold") for part in _wrapped([text], width)]
        return lines

    def _lists(self, view: View, room: int) -> list[ScreenLine]:
        free = room - TITLE_LINES
        upper = max(1, len(view.blocks))
        upper = min(upper, max(free - len(view.sources), math.ceil(free * BLOCKED_SHARE)))
        lower = free - upper
        if free < TITLE_LINES:  # no room for two lists
            upper, lower = room - 1, 0
        shown = f"{len(view.blocks)} of {_count(view.blocked)}" if view.blocks else "none"
        title = f"BLOCKED, newest first ({shown}): time left, packets dropped, why"
        lines = [ScreenLine(title, "bold")]
        lines += self._rows(view.blocks, upper, _block)
        if lower > 0:
            shown = _shown(len(view.sources), view.daemon.get("tracked_sources", 0))
            title = f"NEAR THE TRIGGER ({shown}): share, targets, probes, last seen, kinds"
            lines += [ScreenLine(""), ScreenLine(title, "bold")]
            lines += self._rows(view.sources, lower, _source)
        return lines

    def _rows(
        self, items: Sequence[Item], room: int, row: Callable[[Item], str]
    ) -> list[ScreenLine]:
        """Return the rows that fit, the selected one among them."""
        addresses = _addresses(items)
        at = addresses.index(self._selected) if self._selected in addresses else 0
        first = max(0, at - room + 1)
        made = []
        for item in items[first : first + room]:
            is_selected = item["address"] == self._selected
            marker = "> " if is_selected else "  "
            made.append(ScreenLine(marker + _ascii(row(item)), "reverse" * is_selected))
        return made

    def _foot(self) -> ScreenLine:
        if self._asked is not None:
            what = "never block" if self._asked.what == "allow" else self._asked.what
            return ScreenLine(f"{what} {self._asked.address}? y/n", "bold")
        if self.message:
            return ScreenLine(_ascii(self.message), "bold")
        return ScreenLine("arrows scroll  e or Esc: back" if self.is_reading else KEYS)


def story(found: Item, rows: Sequence[Item]) -> list[str]:
    """Return the result of `explain` as lines."""
    lines = [f"{found['address']}: {found.get('because', '')} (times in {zone()})"]
    for row in rows:
        words = (local_clock(str(row["at"])), row["what"], row["kind"], row["target"], row["why"])
        lines.append("  ".join(cell(word) for word in words if word))
    return lines


def _figures(view: View) -> list[ScreenLine]:
    rates, counters, daemon = view.rates, view.counters, view.daemon
    dropped = total(rates, ("blocked_early", "blocked_late"))
    flood = "ON: all take [detect] trigger" if daemon.get("flood") else "off"
    confined = f"   confined {view.confined:,}" if view.confined else ""
    ever = counters.get("blocked_early", 0) + counters.get("blocked_late", 0)
    lost = daemon.get("overload", {})
    records = daemon.get("lost_records", 0)
    queue = daemon.get("queue", {})
    waiting = f"{view.queue['waiting']:,}" if "waiting" in view.queue else "?"
    losses = [f"{kind} {n:,}" for kind, n in lost.items() if n]
    losses += [f"records lost {records:,}"] if records else []
    losses += [f"unjudged {queue['failures']:,}"] if queue.get("failures") else []
    return [
        ScreenLine(
            f"probes   {_rate(rates, 'judged')}   dropped over a source's limit"
            f" {_rate(rates, 'over_source')}, in all {_rate(rates, 'over_limit')}"
        ),
        ScreenLine(f"dropped  {dropped:,.0f}/s of blocked sources ({ever:,} since install)"),
        ScreenLine(
            f"blocked  {_count(view.blocked)} now{confined}   tracked"
            f" {daemon.get('tracked_sources', 0):,}   flood {flood}"
        ),
        ScreenLine(
            f"queue    {waiting} of {queue.get('max_len', 0):,} waiting"
            f"   {', '.join(losses) or 'ok'}",
            "bold" if losses else "",
        ),
    ]


def _minute(probes: Sequence[float]) -> ScreenLine:
    return ScreenLine(f"minute   [{_bars(probes)}] peak {max(probes, default=0):,.0f}/s")


def _faults(daemon: Item) -> list[str]:
    return [f"{name}: {fault}" for name, fault in daemon.get("faults", {}).items()]


def _block(item: Item) -> str:
    return f"{item['address']:<23} {left(item):>7} {item['dropped_packets']:>7,}  {finding(item)}"


def _source(item: Item) -> str:
    percent = f"{item['progress'] * 100:.0f}%"
    refused = item.get("refused", "")
    return (
        f"{item['address']:<23} {percent:>5} {item['targets']:>4} {item['probes']:>6}"
        f" {duration(item['idle_s']):>6}  {', '.join(item['kinds'])}"
        + (f"; not blocked: {refused}" if refused else "")
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


def _shown(shown: int, known: int) -> str:
    return f"{shown} of {known:,}" if known > shown else str(shown)


def _addresses(items: Sequence[Item]) -> list[str]:
    return [item["address"] for item in items]


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    parts = (textwrap.wrap(_ascii(text), max(4, width), subsequent_indent="  ") for text in texts)
    return [line for part in parts for line in part or [""]]


def _cut(text: str, width: int) -> str:
    """Return text that fits the columns; two dots show that there was more."""
    return text if len(text) <= width else f"{text[: max(0, width - 2)]}.."[:width]


def _ascii(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)
