"""CrowdSec's decisions, as a bouncer reads them, and which of them are taken. Pure: values in,
values out. The API's values may be of any kind.

See docs/decisions.md: crowdsec-member.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, NamedTuple

from sentryfw.engine.model import parse_source, source_text
from sentryfw.engine.networks import Whole6
from sentryfw.text import go_seconds

ORIGIN: Final = "sentryfw"
"""Origin of the decisions that SentryFW has pushed, from this host or another one."""
BY_HAND: Final = frozenset(("cscli",))
"""Origins of decisions made by hand, as root of the API's host."""
LOCAL: Final = "crowdsec"
"""Origin of what scenarios found in logs: taken before lists of strangers."""
WIDEST_PREFIX_BITS: Final = {4: 12, 6: 29}
"""The shortest prefixes that are taken, as of an imported list."""
MAX_WORD_CHARS: Final = 255
MIN_CHANGE_S: Final = 60.0
"""Seconds by which the end of a decision differs before it is taken again."""


class RawDecision(NamedTuple):
    """The fields of a decision that are read. Each may be of any type."""

    origin: Any
    kind: Any
    scope: Any
    value: Any
    duration: Any
    scenario: Any
    simulated: Any


class Decision(NamedTuple):
    """A ban of a source or a network."""

    address: str
    """A source as this program writes it (IPv6: its /64), or a network."""
    seconds: float
    by_hand: bool
    origin: str
    scenario: str


class HeldDecision(NamedTuple):
    """A decision in effect on this host."""

    seconds: float
    """Seconds left."""
    by_hand: bool


class Bounds(NamedTuple):
    """The place that this host has for decisions."""

    max_s: float
    """Longest time of a decision here."""
    room: int
    """Sources that were not found by hand, besides those that are held."""
    credit: int
    """Decisions of any origin."""
    renew_s: float
    """Seconds left below which a decision that lasts on is taken again."""
    reserve: int
    """Part of the credit that is kept for those by hand."""


class Choice(NamedTuple):
    """The changes that follow from an answer."""

    gone: list[str]
    new: list[Decision]
    left_out: int
    """Decisions for which there is no place now."""
    is_short: bool
    """Whether one by hand is among those."""


class _NotTaken(Exception):
    """A decision that has no effect here; its text is one of few words, the label of a counter."""


def compact(fields: dict[str, Any]) -> object:
    """Return a decision's fields; other objects as they are. For json.loads(): an answer may have
    hundreds of thousands."""
    if "value" not in fields or "scope" not in fields:
        return fields
    names = ("origin", "type", "scope", "value", "duration", "scenario", "simulated")
    return RawDecision._make(map(fields.get, names))


def read(items: object, whole6: Whole6) -> tuple[dict[str, Decision], Counter[str]]:
    """Return the strongest decision for each source, and the numbers of what is not taken, by the
    reason. Raise ValueError for another value than a list."""
    found: dict[str, Decision] = {}
    refused: Counter[str] = Counter()
    for item in _listed(items):
        try:
            decision = _decision(item, whole6)
        except _NotTaken as why:
            refused[str(why)] += 1
            continue
        before = found.get(decision.address)
        if before is None or _strength(decision) > _strength(before):
            found[decision.address] = decision
    return found, refused


def sources(items: object, whole6: Whole6) -> set[str]:
    """Return the sources of these decisions. Raise ValueError for another value than a list."""
    found: set[str] = set()
    for item in _listed(items):
        with suppress(_NotTaken):
            found.add(_ban(item, whole6)[0])
    return found


def choose(
    found: Mapping[str, Decision], held: Mapping[str, HeldDecision], lifted: Iterable[str],
    bounds: Bounds, *, compared: bool,
) -> Choice:  # fmt: skip
    """Decide what changes here. `compared`: `found` is everything that the API has; then what is
    held and not found is gone, and what was lifted here by hand is not taken again."""
    skipped = frozenset(lifted) if compared else frozenset[str]()
    gone: list[str] = []
    hand: list[Decision] = []
    again: list[Decision] = []
    fresh: list[Decision] = []
    for decision in found.values():
        have = held.get(decision.address)
        if decision.address in skipped:
            continue
        if have and not _differs(decision, have, bounds, compared=compared):
            continue
        if have and have.by_hand and not decision.by_hand:
            gone.append(decision.address)  # the weaker one follows as a new one
        part = hand if decision.by_hand else again if have else fresh
        part.append(decision)
    if compared:
        gone += [address for address in held if address not in found]
    fresh.sort(key=lambda one: (one.origin != LOCAL, -one.seconds))
    first = hand[: max(0, bounds.credit)]
    rest = [*again, *fresh[: max(0, bounds.room)]]
    rest = rest[: max(0, bounds.credit - bounds.reserve - len(first))]
    left_out = len(hand) + len(again) + len(fresh) - len(first) - len(rest)
    return Choice(gone, first + rest, left_out, len(first) < len(hand))


def _differs(decision: Decision, have: HeldDecision, bounds: Bounds, *, compared: bool) -> bool:
    """Return whether a decision differs from the one in effect about its source."""
    if decision.by_hand != have.by_hand:
        return decision.by_hand or compared
    more_s = min(decision.seconds, bounds.max_s) - have.seconds
    if not compared:
        return more_s > MIN_CHANGE_S
    return more_s < -MIN_CHANGE_S or (more_s > MIN_CHANGE_S and have.seconds < bounds.renew_s)


def _listed(items: object) -> list[object]:
    if items is None:
        return []  # the API writes null for none
    if not isinstance(items, list):
        raise ValueError("not a list of decisions")
    return items


def _decision(item: object, whole6: Whole6) -> Decision:
    address, raw = _ban(item, whole6)
    seconds = go_seconds(raw.duration) if isinstance(raw.duration, str) else None
    if seconds is None:
        raise _NotTaken("bad-duration")
    if seconds <= 0:
        raise _NotTaken("over")
    scenario = raw.scenario[:MAX_WORD_CHARS] if isinstance(raw.scenario, str) else ""
    return Decision(address, seconds, raw.origin in BY_HAND, raw.origin, scenario)


def _ban(item: object, whole6: Whole6) -> tuple[str, RawDecision]:
    """Return the source of a ban, and its fields. Raise _NotTaken."""
    if not isinstance(item, RawDecision) or not _has_words(item):
        raise _NotTaken("unreadable")
    if item.origin == ORIGIN:
        raise _NotTaken("echo")
    if item.simulated is True:
        raise _NotTaken("simulated")
    if item.kind.lower() != "ban":
        raise _NotTaken("not-a-ban")
    if item.scope.lower() not in ("ip", "range"):
        raise _NotTaken("scope")
    return _address(item.value, whole6), item


def _has_words(item: RawDecision) -> bool:
    words = (item.origin, item.kind, item.scope, item.value)
    return all(isinstance(word, str) and len(word) <= MAX_WORD_CHARS for word in words)


def _address(value: str, whole6: Whole6) -> str:
    """Return a source or a network. Raise _NotTaken."""
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise _NotTaken("bad-address") from None
    if "%" in value or _is_mapped(network):
        raise _NotTaken("bad-address")  # an interface of elsewhere; what no packet carries
    if network.prefixlen < WIDEST_PREFIX_BITS[network.version]:
        raise _NotTaken("too-wide")
    return _text(network, whole6)


def _is_mapped(network: IPv4Network | IPv6Network) -> bool:
    return isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None


def _text(network: IPv4Network | IPv6Network, whole6: Whole6) -> str:
    if network.prefixlen < network.max_prefixlen:
        return str(network)
    return source_text(parse_source(str(network.network_address), whole6))


def _strength(decision: Decision) -> tuple[bool, float]:
    return decision.by_hand, decision.seconds
