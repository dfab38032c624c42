"""The sections [[zone]] and [inside]: interfaces with triggers and a mode of their own."""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Annotated, Any, Final, Literal

from sentryfw.config.form import AfterValidator, Field
from sentryfw.config.types import (
    Duration,
    Interface,
    Network,
    Ports,
    Section,
    Trigger,
    matches,
)
from sentryfw.engine.model import Kind

MAX_ZONES: Final = 16
"""Zones besides the default one; each has a table of sources."""
INSIDE: Final = "inside"
"""Name of the zone that [watch] inside and [inside] make."""
DEFAULT: Final = "default"
"""Name, in metrics, of the zone that [watch] and [detect] are."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", re.ASCII)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "write 1 to 32 lower-case letters, digits, - and _ between them, like guest or wan-2"
        )
    if value == DEFAULT:
        raise ValueError('"default" is the zone of [watch] and [detect]: write another name')
    return value


def _interfaces(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError('must not be empty: write ["eth1"] or ["wg*"]')
    if matches("lo", value):
        raise ValueError("lo is not watched: write others")
    return value


class ZoneSection(Section):
    """A group of interfaces whose packets are judged by its own values; a value that is not given
    is that of [detect] or [block]."""

    name: Annotated[str, AfterValidator(_name)]
    interfaces: Annotated[tuple[Interface, ...], Field(max_length=64), AfterValidator(_interfaces)]
    """Names and patterns ("wg*"); they are watched, and belong to no other zone."""
    inside: bool = False
    """Whether they lead inside: what is opened to the outside is not judged, what goes to unlisted
    ports is not dropped below the trigger, and decoys are not shown."""
    mode: Literal["block", "observe"] | None = None
    trigger: Trigger | None = None
    window: Duration | None = None
    slow_trigger: Trigger | None = None
    slow_window: Duration | None = None
    triggers: dict[Kind, Trigger] = Field(default_factory=dict)
    """Triggers by kind, over those of [detect.triggers]."""
    timeouts: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=32)] | None = None
    """Timeouts by offence; offences are counted over all zones."""
    listed_tcp: tuple[Ports, ...] = ()
    """Ports that are listed here, besides those that are listed everywhere."""
    listed_udp: tuple[Ports, ...] = ()
    listed_sctp: tuple[Ports, ...] = ()
    never_block: tuple[Network, ...] = ()
    """Sources that are not blocked for what they send to this zone."""

    def own_horizons(self) -> dict[str, Any]:
        """Return the triggers and windows that are given here, by their names."""
        values = {
            "trigger": self.trigger, "window": self.window,
            "slow_trigger": self.slow_trigger, "slow_window": self.slow_window,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}


class Inside(Section):
    """Detection of scanners inside. Clients there send more, and a block there costs more."""

    trigger: Trigger = 20
    window: Duration = 300.0
    slow_trigger: Trigger = 60
    slow_window: Duration = 86400.0
    mode: Literal["block", "observe"] = "observe"

    def zone(self, interfaces: tuple[Interface, ...]) -> ZoneSection:
        """Return the zone that these interfaces of [watch] inside are."""
        return ZoneSection(
            name=INSIDE, interfaces=interfaces, inside=True, mode=self.mode, trigger=self.trigger,
            window=self.window, slow_trigger=self.slow_trigger, slow_window=self.slow_window,
        )  # fmt: skip


def check_zones(zones: Iterable[ZoneSection], inside: tuple[Interface, ...]) -> None:
    """Raise ValueError for zones of one name, and for an interface in two zones."""
    taken = [("watch.inside", inside)] if inside else []
    names: set[str] = set()
    for zone in zones:
        if zone.name in names:
            raise ValueError(f"two zones are named {zone.name!r}: rename one")
        if zone.name == INSIDE and inside:
            raise ValueError(
                f"{INSIDE!r} is the zone of watch.inside: rename it, or remove watch.inside"
            )
        names.add(zone.name)
        taken.append((f"zone {zone.name!r}", zone.interfaces))
    for (one, ours), (other, theirs) in combinations(taken, 2):
        for mine, its in _common(ours, theirs):
            raise ValueError(
                f"{one} has {mine} and {other} has {its}: an interface is in one zone; remove one"
            )


def _common(ours: Iterable[str], theirs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of patterns that one interface can match."""
    others = tuple(theirs)
    for mine in ours:
        for its in others:
            if matches(mine.rstrip("*"), [its]) or matches(its.rstrip("*"), [mine]):
                yield mine, its
