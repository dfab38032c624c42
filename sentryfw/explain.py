"""Why an address is, was, or was not blocked: kernel and ledger, told together.

Who has CAP_NET_ADMIN looks itself; for others the daemon does. The answer comes in parts (a
head, then each block, refusal and probe), because the control socket's lines are bounded.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from sentryfw.config import Config
from sentryfw.engine.classify import FORGEABLE
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.errors import SentryError, UsageError
from sentryfw.netfilter import host
from sentryfw.netfilter.table import Blocked, IPNetwork, Table
from sentryfw.record import history
from sentryfw.record.entry import Entry, Sight, Trace, event_id
from sentryfw.record.events import timestamp
from sentryfw.record.evidence import file_name
from sentryfw.record.history import History, Past
from sentryfw.record.ledger import Ledger

Item = dict[str, Any]
Warn = Callable[[str], None]
LISTS: Final = ("blocks", "refusals", "probes", "reactions")

RULES: Final = {
    "never_block": "the address is never blocked: [never_block], and what this host depends on",
    "partner": "it finished a handshake with a listed service within a day, and anybody could"
    " have forged these probes in its name",
    "observe": "the mode, or the level of this protocol family, is observe",
    "flood": "flood mode: a single forgeable packet is too little while somebody is forging",
    "command": "the level of this protocol family is command: the external command was run",
    "block.per_minute": "there were as many blocks in the last minute as [block] per_minute allows",
    "block.max_elements": "as many are blocked as [block] max_elements allows",
}
"""Why a scan was not answered with a block, by the reason in the refusal (engine/decide.py)."""


class Subject(NamedTuple):
    """What is asked about."""

    text: str
    network: IPNetwork
    source: Source | None
    """None: a network that is blocked as one."""

    @property
    def name(self) -> str:
        """As the ledger and the sets name it."""
        return str(self.network) if self.source is None else source_text(self.source)


class Kernel(NamedTuple):
    """What the kernel says of it."""

    installed: bool
    block: Blocked | None
    around: list[Blocked]
    """Blocked networks that it lies in."""
    partner: bool
    suspect: bool
    spared: list[IPNetwork]
    """Elements of the never-block set that it lies in."""


def subject(text: str) -> Subject:
    """UsageError if it is neither an address nor a network."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"{text!r} is neither an address nor a network") from None
    plain = "/" not in text or network.prefixlen == network.max_prefixlen
    if plain:
        return Subject(text, network, parse_source(str(network.network_address)))
    is_source = network.version == 6 and network.prefixlen == 64
    return Subject(text, network, parse_source(str(network)) if is_source else None)


def parts(config: Config, table: Table, text: str, warn: Warn) -> Iterator[Item]:
    """{"head": ...}, then one {"blocks" | "refusals" | ...: ...} for each."""
    about = subject(text)
    kernel = _kernel(table, about)
    remembered, past = _ledger(config, about, warn)
    protected = [
        (entry.network, entry.why)
        for entry in host.never_block(config, host.remembered(remembered))
        if _within(about.network, entry.network)
    ]
    now = time.time()
    yield {"head": _head(about, kernel, protected, past, now)}
    kept = config.paths.evidence
    for index, item in enumerate(past.blocks):
        newest = index == len(past.blocks) - 1
        ended = _ended(item, kernel.block if newest else None, now)
        packets = (kept / file_name(item.entry)).exists()
        yield {"blocks": {**_entry(item.entry), **ended, "capture": packets}}
    for refusal in past.refusals:
        rule = RULES.get(refusal.reason, refusal.reason)
        yield {"refusals": {**_entry(refusal), "rule": rule}}
    for sight in _pending(past):
        yield {"probes": _probe(sight)}
    for reaction in past.reactions:
        yield {"reactions": {**reaction._asdict(), "at": timestamp(reaction.at)}}


def whole(found: Iterable[Item]) -> Item:
    """The parts as one answer."""
    made: Item = {}
    lists: dict[str, list[Item]] = {name: [] for name in LISTS}
    for part in found:
        for name, item in part.items():
            if name == "head":
                made = item
            else:
                lists[name].append(item)
    return {**made, **lists}


def past_blocks(config: Config, text: str) -> list[Entry]:
    """The blocks of an address that the ledger knows, oldest first."""
    if not config.paths.ledger.exists():
        return []
    with Ledger(config.paths.ledger) as ledger:
        return [past.entry for past in history.of(ledger, subject(text).name).blocks]


def _kernel(table: Table, about: Subject) -> Kernel:
    if not table.is_installed():
        return Kernel(False, None, [], False, False, [])
    around = [b for b in table.blocked_networks() if _within(about.network, ip_network(b.address))]
    source = about.source
    spared = [n for n in table.never_blocked() if _within(about.network, n)]
    if source is None:
        exact = [b for b in around if ip_network(b.address) == about.network]
        around = [b for b in around if b not in exact]
        return Kernel(True, exact[0] if exact else None, around, False, False, spared)
    return Kernel(
        True,
        table.find(source),
        around,
        table.holds("partner", source),
        table.holds("suspect", source),
        spared,
    )


def _ledger(config: Config, about: Subject, warn: Warn) -> tuple[list[tuple[str, str]], History]:
    nothing = History([], [], [], [])
    if not config.paths.ledger.exists():
        return [], nothing
    try:
        with Ledger(config.paths.ledger) as ledger:
            return ledger.protected(), history.of(ledger, about.name)
    # ValueError: a row that is no JSON
    except (SentryError, ValueError) as error:
        warn(f"the ledger cannot be read, so only the kernel speaks: {error}")
        return [], nothing


def _head(
    about: Subject, kernel: Kernel, protected: list[tuple[IPNetwork, str]], past: History,
    now: float,
) -> Item:  # fmt: skip
    block = kernel.block
    shields = [
        {"network": str(network), "why": why, "in_kernel": _covers(kernel.spared, network)}
        for network, why in protected
    ]
    if kernel.spared and not shields:
        shields = [
            {"network": str(network), "why": "added to the kernel's set by hand", "in_kernel": True}
            for network in kernel.spared
        ]
    return {
        "address": about.text,
        "source": about.name,
        "family": f"ipv{about.network.version}",
        "installed": kernel.installed,
        "blocked": block is not None or bool(kernel.around),
        "because": _because(kernel, shields, past, now),
        "timeout_s": round(block.timeout, 3) if block else None,
        "expires_in_s": round(block.expires, 3) if block and block.timeout else None,
        "dropped_packets": block.packets if block else None,
        "dropped_bytes": block.bytes if block else None,
        "within": [blocked.address for blocked in kernel.around],
        "offences": max((p.entry.offence for p in past.blocks), default=0),
        "never_block": shields,
        "partner": kernel.partner,
        "suspect": kernel.suspect,
    }


def _because(kernel: Kernel, shields: list[Item], past: History, now: float) -> str:
    """One sentence, the strongest reason first."""
    last = past.blocks[-1].entry if past.blocks else None
    if shields:
        why = ", ".join(dict.fromkeys(f"{s['why']} ({s['network']})" for s in shields))
        spared = "; nft spares it though it is in a block set" if kernel.block else ""
        return f"never blocked: {why}{spared}"
    if kernel.block is not None:
        if last is None:
            return "blocked, by somebody who left no reason in the ledger"
        kinds = f"{last.scan} ({', '.join(last.kinds)}): " if last.scan else ""
        return f"blocked: {kinds}{last.reason}"
    if kernel.around:
        return f"blocked within {', '.join(b.address for b in kernel.around)}"
    refusal = past.refusals[-1] if past.refusals else None
    if refusal is not None and (last is None or refusal.blocked_at > last.blocked_at):
        return f"not blocked: {RULES.get(refusal.reason, refusal.reason)}"
    if last is not None:
        ended = _ended(past.blocks[-1], None, now)
        return f"not blocked any more: {ended['state']} at {ended['ended_at'] or 'some time'}"
    if past.probes:
        return f"not blocked: {len(past.probes)} probes, which is below the trigger"
    return "not blocked: nothing is known of it" + ("" if kernel.installed else ", nor installed")


def _ended(past: Past, alive: Blocked | None, now: float) -> Item:
    """Whether and how a block came to its end."""
    entry = past.entry
    end = entry.blocked_at + entry.timeout_s
    if past.unblocked_at is not None:
        return {"state": "unblocked", "ended_at": timestamp(past.unblocked_at)}
    if alive is not None:
        return {"state": "blocked", "ended_at": None}
    if entry.timeout_s and end <= now:
        return {"state": "expired", "ended_at": timestamp(end)}
    return {"state": "no longer in the kernel", "ended_at": None}


def _entry(entry: Entry) -> Item:
    return {
        "id": event_id(entry),
        "at": timestamp(entry.blocked_at),
        "scan": entry.scan,
        "kinds": entry.kinds,
        "targets": entry.targets,
        "probes": entry.probes,
        "first_seen": timestamp(entry.first_seen),
        "timeout_s": entry.timeout_s,
        "offence": entry.offence,
        "forgeable": entry.forgeable,
        "tool": entry.tool,
        "reason": entry.reason,
        "evidence": [_probe(seen) for seen in entry.trace],
    }


def _probe(seen: Trace | Sight) -> Item:
    return {
        "at": timestamp(seen.at),
        "kind": seen.kind,
        "target": seen.target,
        "listed": seen.listed,
        "forgeable": seen.kind in FORGEABLE,
    }


def _pending(past: History) -> list[Sight]:
    """Probes that led to no decision yet."""
    ends = {seen.target: refusal.blocked_at for refusal in past.refusals for seen in refusal.trace}
    since = past.blocks[-1].entry.blocked_at if past.blocks else 0.0
    return [sight for sight in past.probes if sight.at > max(since, ends.get(sight.target, 0.0))]


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _covers(networks: list[IPNetwork], network: IPNetwork) -> bool:
    return any(_within(network, other) for other in networks)
