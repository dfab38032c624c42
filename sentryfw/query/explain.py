"""The reasons why an address is, was, or was not blocked, from kernel and ledger.

A caller with CAP_NET_ADMIN reads them itself; for other callers the daemon does. The answer comes
in parts (head, blocks, refusals, probes), because the control socket's lines are bounded.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork, is_within, parse_network
from sentryfw.engine.classify import FORGEABLE
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY, Whole6
from sentryfw.errors import SentryError, UsageError
from sentryfw.host.protected import never_block
from sentryfw.host.protected import remembered as from_ledger
from sentryfw.host.whole6 import neighbours
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.query import foreign
from sentryfw.query.explain_items import (
    BlockEnd,
    DecisionItem,
    ExplainHead,
    NeverBlockReason,
    ProbeItem,
)
from sentryfw.record import lookup
from sentryfw.record.captures import CaptureReader
from sentryfw.record.events import timestamp
from sentryfw.record.fleet.held import Held
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import Past, SourceHistory
from sentryfw.record.records import DecisionRecord, ProbeRecord, ProbeTrace, event_id
from sentryfw.text import counted, in_zone, local_time

Item = dict[str, Any]
Warn = Callable[[str], None]
LISTS: Final = ("blocks", "refusals", "probes", "reactions")

RULES: Final = {
    "never_block": "the address is never blocked: [never_block], or this host depends on it",
    "partner": "it finished a handshake with a listed service within a day, and these probes can"
    " be forged in its name",
    "listed": "the services that it asked for had not started yet; the block was ended",
    "observe": "the mode, or the level of this protocol family, is observe",
    "flood": "flood mode: a single forgeable packet is too little while packets are being forged",
    "command": "the level of this protocol family is command: the external command was run",
    "block.per_minute": "the blocks of the last minute have reached [block] per_minute",
    "block.max_elements": "the active blocks have reached [block] max_elements",
}
"""The rule behind a refusal, by its reason (engine/decide.py)."""


class Subject(NamedTuple):
    """The address or network that is asked about."""

    text: str
    network: IPNetwork
    source: Source | None
    """None for a network that is blocked as one."""

    @property
    def name(self) -> str:
        """Its name in the ledger and in the sets."""
        return str(self.network) if self.source is None else source_text(self.source)


class KernelView(NamedTuple):
    """The subject's state in the kernel."""

    installed: bool
    block: Blocked | None = None
    around: Sequence[Blocked] = ()
    """Blocked networks that contain it."""
    partner: bool = False
    confined: Blocked | None = None
    suspect: bool = False
    never_block: Sequence[IPNetwork] = ()
    """Elements of the never-block set that contain it."""
    foreign: Blocked | None = None
    """Its block by other members of the fleet."""


def subject(text: str, whole: Whole6 = LINK_LOCAL_ONLY) -> Subject:
    """Parse an address or a network; `whole`: where addresses are sources. Raise UsageError."""
    try:
        network = parse_network(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither an address nor a network") from None
    plain = "/" not in text or network.prefixlen == network.max_prefixlen
    if plain:
        return Subject(text, network, parse_source(str(network.network_address), whole))
    is_source = network.version == 6 and network.prefixlen == 64
    return Subject(text, network, parse_source(str(network)) if is_source else None)


def parts(config: Config, table: Table, text: str, warn: Warn) -> Iterator[Item]:
    """Yield {"head": ...}, then {"blocks" | "refusals" | "probes" | "reactions": ...} for each."""
    about = subject(text, Whole6(neighbours(config).whole6))
    kernel = _kernel(table, about)
    remembered, past, members = _ledger(config, about, warn)
    protected = [
        (entry.network, entry.why)
        for entry in never_block(config, from_ledger(remembered))
        if is_within(about.network, entry.network)
    ]
    now = time.time()
    head = _head(about, kernel, protected, past, now)
    word = foreign.because(members, is_blocked=kernel.foreign is not None)
    if word and kernel.block is None and not kernel.around and not head["never_block"]:
        head["because"] = word
    yield {"head": {**head, "members": foreign.items(members)}}
    kept = CaptureReader(config.paths.evidence)
    for index, item in enumerate(past.blocks):
        newest = index == len(past.blocks) - 1
        live = kernel.block if newest else None
        ended = _ended(item, live, now)
        dropped = item.dropped_packets if live is None else live.packets
        kept_of_it = {"capture": bool(kept.of(item.entry)), "dropped_packets": dropped}
        yield {"blocks": {**_entry(item.entry), **ended, **kept_of_it}}
    for refusal in past.refusals:
        rule = RULES.get(refusal.reason, refusal.reason)
        yield {"refusals": {**_entry(refusal), "rule": rule}}
    for probe in _pending(past):
        yield {"probes": _probe(probe)}
    for reaction in past.reactions:
        yield {"reactions": {**reaction._asdict(), "at": timestamp(reaction.at)}}


def whole(found: Iterable[Item]) -> Item:
    """Return the parts as one answer. Raise SentryError if the head is missing."""
    made: Item = {}
    lists: dict[str, list[Item]] = {name: [] for name in LISTS}
    for part in found:
        for name, item in part.items():
            if name == "head":
                made = item
            else:
                lists[name].append(item)
    if not made:
        raise SentryError("the daemon's answer has no head: restart it")
    return {**made, **lists}


def past_blocks(config: Config, text: str) -> list[DecisionRecord]:
    """Return the blocks of an address in the ledger, oldest first."""
    if not config.paths.ledger.exists():
        return []
    about = subject(text, Whole6(neighbours(config).whole6))
    with Ledger(config.paths.ledger) as ledger:
        return [past.entry for past in lookup.history(ledger, about.name).blocks]


def _kernel(table: Table, about: Subject) -> KernelView:
    if not table.is_installed():
        return KernelView(installed=False)
    around = [
        b for b in table.sets.blocked_networks() if is_within(about.network, ip_network(b.address))
    ]
    source = about.source
    never_block_ranges = [n for n in table.sets.never_blocked() if is_within(about.network, n)]
    if source is None:
        exact = [b for b in around if ip_network(b.address) == about.network]
        around = [b for b in around if b not in exact]
        block = exact[0] if exact else None
        return KernelView(
            installed=True, block=block, around=around, never_block=never_block_ranges,
            foreign=foreign.find(table, about.name, None),
        )  # fmt: skip
    return KernelView(
        installed=True,
        block=table.sets.find(source),
        around=around,
        partner=table.sets.is_partner(source),
        confined=_confinement(table, source),
        suspect=table.sets.is_suspect(source),
        never_block=never_block_ranges,
        foreign=foreign.find(table, about.name, source),
    )


def _confinement(table: Table, source: Source) -> Blocked | None:
    found = table.decisions.find(source)
    return None if found is None else blocked_of(found)


def _ledger(
    config: Config, about: Subject, warn: Warn
) -> tuple[list[tuple[str, str]], SourceHistory, list[Held]]:
    nothing = SourceHistory([], [], [], [])
    if not config.paths.ledger.exists():
        return [], nothing, []
    try:
        with Ledger(config.paths.ledger) as ledger:
            past = lookup.history(ledger, about.name)
            return ledger.protected(), past, foreign.rows(ledger, about.name)
    # ValueError: a row is not JSON
    except (SentryError, ValueError) as error:
        warn(f"the ledger cannot be read, so only the kernel's state is shown: {error}")
        return [], nothing, []


def _head(
    about: Subject, kernel: KernelView, protected: list[tuple[IPNetwork, str]], past: SourceHistory,
    now: float,
) -> ExplainHead:  # fmt: skip
    block = kernel.block or kernel.foreign or kernel.confined
    reasons: list[NeverBlockReason] = [
        {"network": str(network), "why": why, "in_kernel": _covers(kernel.never_block, network)}
        for network, why in protected
    ]
    if kernel.never_block and not reasons:
        reasons = [
            {"network": str(network), "why": "added to the kernel's set by hand", "in_kernel": True}
            for network in kernel.never_block
        ]
    return {
        "address": about.text,
        "source": about.name,
        "family": f"ipv{about.network.version}",
        "installed": kernel.installed,
        "blocked": bool(kernel.block or kernel.foreign or kernel.around),
        "because": _because(kernel, reasons, past, now),
        "timeout_s": round(block.timeout, 3) if block else None,
        "expires_in_s": round(block.expires, 3) if block and block.timeout else None,
        "dropped_packets": block.packets if block else None,
        "dropped_bytes": block.bytes if block else None,
        "within": [blocked.address for blocked in kernel.around],
        "offences": max(
            [*(p.entry.offence for p in past.blocks), *(r.offence for r in past.refusals)],
            default=0,
        ),
        "never_block": reasons,
        "partner": kernel.partner,
        "confined": kernel.confined is not None,
        "suspect": kernel.suspect,
        "members": [],
    }


def _because(
    kernel: KernelView, reasons: list[NeverBlockReason], past: SourceHistory, now: float
) -> str:
    """Return the strongest reason as one sentence."""
    last = past.blocks[-1].entry if past.blocks else None
    if reasons:
        why = ", ".join(dict.fromkeys(f"{s['why']} ({s['network']})" for s in reasons))
        accepted = "; nft accepts it although it is in a block set" if kernel.block else ""
        return f"never blocked: {why}{accepted}"
    if kernel.block is not None:
        if last is None:
            return "blocked, without a reason in the ledger"
        return f"blocked: {_finding(last)}{last.reason}"
    if kernel.around:
        return f"blocked within {', '.join(b.address for b in kernel.around)}"
    refusal = past.refusals[-1] if past.refusals else None
    if kernel.confined is not None:
        why = f": {refusal.reason}" if refusal is not None and refusal.confined else ""
        return f"confined, as a partner, to the services that it used within the last day{why}"
    if refusal is not None and (last is None or refusal.blocked_at > last.blocked_at):
        targets = counted(refusal.targets, "distinct target")
        rule = RULES.get(refusal.reason, refusal.reason)
        return f"not blocked: {_finding(refusal)}{targets}, but {rule}"
    if last is not None:
        ended = _ended(past.blocks[-1], None, now)
        return f"not blocked any more: {ended['state']}{_at(ended['ended_at'])}"
    if past.probes:
        return f"not blocked: {counted(len(past.probes), 'probe')}, which is below the trigger"
    return "not blocked: nothing is known of it" + ("" if kernel.installed else ", nor installed")


def _finding(entry: DecisionRecord) -> str:
    tool = "" if entry.tool in {"", "unknown"} else f" by {entry.tool}"
    zone = in_zone(entry.zone)
    return f"{entry.scan}{tool}{zone} ({', '.join(entry.kinds)}): " if entry.scan else ""


def _at(moment: str | None) -> str:
    return f" at {local_time(moment)}" if moment else ""


def _ended(past: Past, live: Blocked | None, now: float) -> BlockEnd:
    """Return the state of a block, and when it ended."""
    entry = past.entry
    end = entry.blocked_at + entry.timeout_s
    if past.unblocked_at is not None:
        return {"state": "unblocked", "ended_at": timestamp(past.unblocked_at)}
    if live is not None:
        return {"state": "blocked", "ended_at": None}
    if entry.timeout_s and end <= now:
        return {"state": "expired", "ended_at": timestamp(end)}
    return {"state": "no longer in the kernel", "ended_at": None}


def _entry(entry: DecisionRecord) -> DecisionItem:
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
        "zone": entry.zone,
        "reason": entry.reason,
        "evidence": [_probe(seen) for seen in entry.trace],
    }


def _probe(seen: ProbeTrace | ProbeRecord) -> ProbeItem:
    return {
        "at": timestamp(seen.at),
        "kind": seen.kind,
        "target": seen.target,
        "listed": seen.listed,
        "forgeable": seen.kind in FORGEABLE,
    }


def _pending(past: SourceHistory) -> list[ProbeRecord]:
    """Return the probes that have not led to a decision."""
    ends = {seen.target: refusal.blocked_at for refusal in past.refusals for seen in refusal.trace}
    since = past.blocks[-1].entry.blocked_at if past.blocks else 0.0
    return [probe for probe in past.probes if probe.at > max(since, ends.get(probe.target, 0.0))]


def _covers(networks: Iterable[IPNetwork], network: IPNetwork) -> bool:
    return any(is_within(network, other) for other in networks)
