"""An in-memory stand-in for the kernel's table: `Table` and `BlockSets` without netlink.

`FakeKernel` is what a network namespace holds of nftables, with a clock that only `advance` moves.
A transaction works on a copy of the whole state, which replaces the state when all of it
succeeded, so a failing one leaves nothing behind. tests/netfilter/test_table_contract.py runs one
suite on this and on the kernel: a difference is a fault of this file.
"""

import copy
import errno
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any, Final

from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source, parse_source, source_of_key, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY, NetworkIndex
from sentryfw.errors import KernelError, NotFound, SentryError, UsageError
from sentryfw.netfilter import ruleset, schema
from sentryfw.netfilter.block_sets import Blocked, BlockSets
from sentryfw.netfilter.sets.decisions import DecisionSets
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netfilter.sets.mirror import END_TOLERANCE_S, MirrorSets, outer
from sentryfw.netfilter.sets.whole import Warn
from sentryfw.netfilter.table import Counter, Table
from sentryfw.netlink import message
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import Element

BLOCK, SUSPECT, PARTNER, CONFINE, CUT = "block", "suspect", "partner", "confine", "cut"
FLEET, FLEET_CUT = "fleet", "fleet_cut"
COUNTERS: Final = re.compile(r"^\tcounter (\w+) \{$", re.MULTILINE)
CHAIN: Final = "judge"
"""The chain that rules are appended to."""
SHORTEST_S: Final = 0.001


@dataclass
class FakeElement:
    """A source or a network in a set."""

    timeout: float
    """Seconds; 0: it does not end."""
    end: float
    """On the kernel's clock."""
    packets: int = 0
    bytes: int = 0


@dataclass
class FakeState:
    """The table."""

    comment: str
    size: int
    """Elements that each set of blocked sources can hold."""
    counters: dict[str, Counter]
    sources: dict[str, dict[Source, FakeElement]] = field(default_factory=dict)
    """Elements by the set's name: block4, suspect6 ..."""
    networks: dict[IPNetwork, FakeElement] = field(default_factory=dict)
    fleet_networks: dict[IPNetwork, FakeElement] = field(default_factory=dict)
    learnt: dict[str, dict[bytes, FakeElement]] = field(default_factory=dict)
    """Elements that others added to learnt sets, by the set's name."""
    never_block: list[IPNetwork] = field(default_factory=list)
    neighbours: tuple[list[IPNetwork], list[IPNetwork]] = field(default_factory=lambda: ([], []))
    """The networks of neighbours, and those whose addresses are sources."""
    rules: list[tuple[int, list[str]]] = field(default_factory=list)
    """Rules of chain `judge`: handle, and the names of the expressions."""
    handles: int = 1


class FakeKernel:
    """The nftables state of a network namespace."""

    def __init__(self) -> None:
        self.state: FakeState | None = None
        self.now = 0.0
        self.is_switched_off = False
        self._refusals: list[int] = []

    def install(self, comment: str = schema.COMMENT, size: int = schema.BLOCK_SET_SIZE) -> None:
        """Make an empty table, as `sentryfw install` does."""
        text = (ruleset.directory() / "sets.nft").read_text()
        self.state = FakeState(comment, size, dict.fromkeys(COUNTERS.findall(text), Counter(0, 0)))
        self.state.rules.append((1, ["meta", "cmp", "target"]))

    def uninstall(self) -> None:
        self.state = None

    def advance(self, seconds: float) -> None:
        """Let time pass; elements whose timeout is over are gone."""
        self.now += seconds
        if self.state is not None:
            sets: list[dict[Any, FakeElement]] = [
                *self.state.sources.values(), *self.state.learnt.values(), self.state.networks,
                self.state.fleet_networks,
            ]  # fmt: skip
            for elements in sets:
                for key in [key for key, element in elements.items() if self._is_over(element)]:
                    del elements[key]

    def refuse(self, code: int) -> None:
        """Answer the next transaction with an errno."""
        self._refusals.append(code)

    def transact(self, change: Callable[[FakeState], None], what: str) -> None:
        """Apply a change to a copy of the state; keep the copy if it succeeds."""
        after = copy.deepcopy(self.require(what))
        change(after)
        if self._refusals:
            raise KernelError(self._refusals.pop(0), what)
        self.state = after

    def require(self, what: str) -> FakeState:
        """Return the state. KernelError without a table."""
        if self.state is None:
            raise KernelError(errno.ENOENT, what)
        return self.state

    def element(self, timeout: float) -> FakeElement:
        rounded = max(SHORTEST_S, round(timeout, 3)) if timeout else 0.0
        return FakeElement(rounded, self.now + rounded)

    def left(self, element: FakeElement) -> float:
        return round(element.end - self.now, 3) if element.timeout else 0.0

    def add(self, name: str, address: str, timeout: float = 60.0) -> None:
        """Add a source to a set, as a rule of the table does."""
        source = _key(name, parse_source(address, LINK_LOCAL_ONLY))
        self.require(name).sources.setdefault(_set(name, source), {})[source] = self.element(
            timeout
        )

    def hit(self, address: str, packets: int, size: int) -> None:
        """Count packets that the block of a source dropped."""
        source = parse_source(address, LINK_LOCAL_ONLY)
        element = self.require("count").sources[_set(BLOCK, source)][source]
        element.packets += packets
        element.bytes += size

    def _is_over(self, element: FakeElement) -> bool:
        return bool(element.timeout) and element.end <= self.now


class FakeTable(Table):
    """`Table` on a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.sets = FakeBlockSets(kernel)
        self.decisions = FakeDecisionSets(kernel)
        self.mirror = FakeMirrorSets(kernel)

    def close(self) -> None:
        """Do nothing: there is not a socket."""

    @property
    def port(self) -> int:
        return 1

    def comment(self) -> str | None:
        return None if self._kernel.state is None else self._kernel.state.comment

    def is_switched_off(self) -> bool:
        return self._kernel.is_switched_off

    def switch_on(self) -> None:
        self._kernel.is_switched_off = False

    def delete(self) -> None:
        self._kernel.uninstall()

    def replace_never_block(
        self, networks: NetworkIndex, known: NetworkIndex | None = None
    ) -> None:
        def change(state: FakeState) -> None:
            state.never_block = [n for family in (4, 6) for n in _joined(networks, family)]

        self._kernel.transact(change, "never-block")

    def replace_neighbours(self, onlink: Iterable[IPNetwork], whole6: Iterable[IPNetwork]) -> None:
        found = [*onlink], [*whole6]

        def change(state: FakeState) -> None:
            state.neighbours = found

        self._kernel.transact(change, "neighbours")

    def append_rule(self, body: bytes, what: str, *, commit: bool = True) -> None:
        names = _expressions(body)

        def change(state: FakeState) -> None:
            state.handles += 1
            state.rules.append((state.handles, names))

        if commit:
            self._kernel.transact(change, what)
        else:
            change(copy.deepcopy(self._kernel.require(what)))

    def replace_rule(self, body: bytes, handle: int, what: str) -> None:
        names = _expressions(body)

        def change(state: FakeState) -> None:
            index = _index(state, handle, what)
            state.handles += 1
            state.rules[index] = (state.handles, names)

        self._kernel.transact(change, what)

    def delete_rule(self, chain: str, handle: int) -> None:
        what = f"chain {chain}: delete a rule"

        def change(state: FakeState) -> None:
            del state.rules[_index(state, handle, what)]

        self._kernel.transact(change, what)

    def last_rule(self, chain: str) -> int:
        rules = self._rules_of(chain)
        if not rules:
            raise SentryError(f"chain {chain} has no rule")
        return rules[-1][0]

    def rule_expressions(self, chain: str) -> Iterator[str]:
        for _, names in self._rules_of(chain):
            yield from names

    def counter(self, name: str) -> Counter | None:
        state = self._kernel.state
        return None if state is None else state.counters.get(name)

    def counters(self) -> dict[str, Counter]:
        state = self._kernel.state
        return {} if state is None else dict(state.counters)

    def _rules_of(self, chain: str) -> list[tuple[int, list[str]]]:
        state = self._kernel.state
        return state.rules if state is not None and chain == CHAIN else []


class FakeDecisionSets(DecisionSets):
    """`DecisionSets` on a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def confine(self, source: Source, timeout: float) -> None:
        def change(state: FakeState) -> None:
            elements = state.sources.setdefault(_set(CONFINE, source), {})
            elements[source] = self._kernel.element(timeout)

        self._kernel.transact(change, "confine")

    def release(self, source: Source) -> bool:
        found = self.find(source) is not None or self.find_of_fleet(source) is not None
        if self._kernel.state is not None:
            for name in (CONFINE, CUT, FLEET, FLEET_CUT):
                self._kernel.state.sources.get(_set(name, source), {}).pop(source, None)
        return found

    def find(self, source: Source) -> Element | None:
        state = self._kernel.state
        held = {} if state is None else state.sources.get(_set(CONFINE, source), {})
        return self._element(source, held[source]) if source in held else None

    def confined(self) -> Iterator[Element]:
        for family in (4, 6):
            name = f"{CONFINE}{family}"
            held = self._kernel.require(f"set {name}").sources.get(name, {})
            yield from (self._element(*item) for item in held.items())

    def block_for_fleet(
        self, blocks: Iterable[tuple[Source, float]], cut: Container[Source] = ()
    ) -> None:
        given = list(blocks)

        def change(state: FakeState) -> None:
            for source, timeout in given:
                elements = state.sources.setdefault(_set(FLEET, source), {})
                elements[source] = self._kernel.element(timeout)
                flows = state.sources.setdefault(_set(FLEET_CUT, source), {})
                flows.pop(source, None)
                if source in cut:
                    flows[source] = self._kernel.element(timeout)

        if given:
            self._kernel.transact(change, "block for the fleet")

    def find_of_fleet(self, source: Source) -> Element | None:
        state = self._kernel.state
        held = {} if state is None else state.sources.get(_set(FLEET, source), {})
        return self._element(source, held[source]) if source in held else None

    def lift_for_fleet(self, source: Source) -> bool:
        found = self.find_of_fleet(source) is not None
        if found:
            for name in (FLEET, FLEET_CUT):
                self._kernel.require(FLEET).sources.get(_set(name, source), {}).pop(source, None)
        return found

    def of_fleet(self) -> Iterator[Element]:
        for family in (4, 6):
            name = f"{FLEET}{family}"
            held = self._kernel.require(f"set {name}").sources.get(name, {})
            yield from (self._element(*item) for item in held.items())

    def _element(self, source: Source, held: FakeElement) -> Element:
        left = self._kernel.left(held)
        return Element(key_of(source), held.timeout, left, held.packets, held.bytes)

    def count(self, name: str) -> int | None:
        return len(self._kernel.require(name).sources.get(name, {}))

    def count_confined(self) -> dict[int, int]:
        return {family: self.count(f"{CONFINE}{family}") or 0 for family in (4, 6)}

    def is_paused(self) -> bool:
        return False


class FakeMirrorSets(MirrorSets):
    """`MirrorSets` on a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def block_networks(self, networks: Mapping[IPNetwork, float]) -> None:
        given = {network: networks[network] for network in outer(networks)}

        def change(state: FakeState) -> None:
            state.fleet_networks = {n: self._kernel.element(given[n]) for n in given}

        self._kernel.transact(change, "block networks for the fleet")

    def networks(self) -> Iterator[tuple[IPNetwork, Element]]:
        held = self._kernel.require("set fleet_net4").fleet_networks
        for network, found in sorted(held.items(), key=lambda item: str(item[0])):
            key = network.network_address.packed
            yield network, Element(key, found.timeout, self._kernel.left(found), 0, 0)

    def has_room(self, name: str) -> bool:
        return True

    def learn(self, name: str, given: Iterable[tuple[bytes, float]]) -> int:
        items = list(given)
        there = self._kernel.require(name).learnt.get(name, {})
        later = {
            key: seconds
            for key, seconds in items
            if key not in there or self._kernel.left(there[key]) < seconds - END_TOLERANCE_S
        }

        def change(state: FakeState) -> None:
            elements = state.learnt.setdefault(name, {})
            elements.update({key: self._kernel.element(later[key]) for key in later})

        if later:
            self._kernel.transact(change, f"learn {name} for the fleet")
        return len(later)


class FakeBlockSets(BlockSets):
    """`BlockSets` on a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    # --- sources

    def block(self, blocks: Iterable[tuple[Source, float]], cut: Iterable[Source] = ()) -> None:
        given, ending = list(blocks), frozenset(cut)

        def change(state: FakeState) -> None:
            for source, timeout in given:
                elements = state.sources.setdefault(_set(BLOCK, source), {})
                if source not in elements and len(elements) >= state.size:
                    raise KernelError(errno.ENFILE, "block")
                elements[source] = self._kernel.element(timeout)
                if source in ending:
                    flows = state.sources.setdefault(_set(CUT, source), {})
                    flows[source] = self._kernel.element(timeout)

        self._kernel.transact(change, "block")

    def unblock(self, source: Source) -> None:
        def change(state: FakeState) -> None:
            for name in (BLOCK, CONFINE, CUT, FLEET, FLEET_CUT):
                state.sources.get(_set(name, source), {}).pop(source, None)

        held = self._holds(CONFINE, source) or self._holds(FLEET, source)
        if self.find(source) is None and not held:
            raise NotFound(f"{source_text(source)} is not blocked")
        self._kernel.transact(change, f"delete element from {_set(BLOCK, source)}")
        self.clear_suspect(source)

    def clear_suspect(self, source: Source) -> None:
        key = _key(SUSPECT, source)
        if self._holds(SUSPECT, source):
            self._kernel.require(SUSPECT).sources[_set(SUSPECT, key)].pop(key)

    def find(self, source: Source) -> Blocked | None:
        state = self._kernel.state
        elements = {} if state is None else state.sources.get(_set(BLOCK, source), {})
        return self._blocked(source, elements[source]) if source in elements else None

    def is_partner(self, source: Source) -> bool:
        return self._holds(PARTNER, source)

    def partners_among(self, sources: Iterable[Source]) -> set[Source]:
        return {source for source in sources if self.is_partner(source)}

    def is_suspect(self, source: Source) -> bool:
        return self._holds(SUSPECT, source)

    def _holds(self, name: str, source: Source) -> bool:
        key = _key(name, source)
        state = self._kernel.state
        return state is not None and key in state.sources.get(_set(name, key), {})

    def blocked_sources(
        self, families: Iterable[int] = (4, 6), warn: Warn = bool
    ) -> Iterator[Blocked]:
        for family in families:
            name = f"{BLOCK}{family}"
            for source, element in (
                self._kernel.require(f"set {name}").sources.get(name, {}).items()
            ):
                yield self._blocked(source, element)

    def find_all(self, family: int, keys: list[bytes]) -> dict[bytes, Blocked]:
        name = f"{BLOCK}{family}"
        held = self._kernel.require(name).sources.get(name, {})
        sources = {key: source_of_key(key) for key in keys}
        return {k: self._blocked(s, held[s]) for k, s in sources.items() if s in held}

    def _blocked(self, source: Source, element: FakeElement) -> Blocked:
        return Blocked(
            source_text(source), 4 if len(source) == 4 else 6, element.timeout,
            self._kernel.left(element), element.packets, element.bytes,
        )  # fmt: skip

    # --- networks

    def block_network(self, network: IPNetwork, timeout: float) -> None:
        for other in self._kernel.require("set block_net4").networks:
            if other != network and other.version == network.version and other.overlaps(network):
                raise UsageError(
                    f"{network} overlaps {other}, which is blocked: unblock that first"
                )

        def change(state: FakeState) -> None:
            state.networks[network] = self._kernel.element(timeout)

        self._kernel.transact(change, "block network")

    def change_networks(
        self, removed: Iterable[IPNetwork], added: Iterable[tuple[IPNetwork, float]]
    ) -> None:
        def change(state: FakeState) -> None:
            for network in removed:
                del state.networks[network]
            for network, seconds in added:
                state.networks[network] = self._kernel.element(seconds)

        self._kernel.transact(change, "change blocked networks")

    def unblock_network(self, network: IPNetwork) -> None:
        if network not in self._kernel.require("set block_net4").networks:
            raise NotFound(f"{network} is not blocked")

        def change(state: FakeState) -> None:
            del state.networks[network]

        self._kernel.transact(change, "unblock network")

    def blocked_networks(self) -> list[Blocked]:
        found = self._kernel.require("set block_net4").networks
        return [
            Blocked(
                str(network), network.version, found[network].timeout,
                self._kernel.left(found[network]), found[network].packets, found[network].bytes,
            )
            for network in sorted(found, key=lambda n: (n.version, int(n.network_address)))
        ]  # fmt: skip

    def is_never_blocked(self, network: IPNetwork) -> bool:
        return any(
            network.version == held.version and network.subnet_of(held)  # type: ignore[arg-type]
            for held in self.never_blocked()
        )

    def never_blocked(self) -> list[IPNetwork]:
        return list(self._kernel.require("set never_block4").never_block)

    # --- everything

    def count_blocked(self) -> dict[int, int]:
        sources = self._kernel.require("set block4").sources
        counts = {family: len(sources.get(f"{BLOCK}{family}", {})) for family in (4, 6)}
        for blocked in self.blocked_networks():
            counts[blocked.family] += 1
        return counts

    def unblock_all(self) -> int:
        def change(state: FakeState) -> None:
            state.networks.clear()
            for name in (BLOCK, CONFINE, CUT, FLEET, SUSPECT):
                for family in (4, 6):
                    state.sources.pop(f"{name}{family}", None)

        count = sum(self.count_blocked().values())
        self._kernel.transact(change, "flush")
        return count


def _set(name: str, source: Source) -> str:
    return f"{name}{4 if len(source) == 4 else 6}"


def _key(name: str, source: Source) -> Source:
    """Return the source's key in a set."""
    return source


def _joined(networks: NetworkIndex, family: int) -> Iterator[IPNetwork]:
    size = 4 if family == 4 else 16
    for first, last in networks.ranges(family):
        ends = (ip_address(first.to_bytes(size)), ip_address(last.to_bytes(size)))
        for network in summarize_address_range(*ends):
            yield ip_network(network)


def _expressions(body: bytes) -> list[str]:
    """Return the names of the expressions in a body of NFT_MSG_NEWRULE."""
    fields = message.attributes(body).get(nl.NFTA_RULE_EXPRESSIONS, b"")
    items = (message.attributes(item) for _, item in message.attribute_list(fields))
    return [message.name_of(item.get(nl.NFTA_EXPR_NAME, b"")) for item in items]


def _index(state: FakeState, handle: int, what: str) -> int:
    for index, (number, _) in enumerate(state.rules):
        if number == handle:
            return index
    raise KernelError(errno.ENOENT, what)
