"""Block and unblock sources and networks: the elements of the table's sets.

Single elements go through netlink: 16 us against 100 us through libnftables, 15 ms where a table of
the host has a big interval set.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from socket import inet_ntoa
from typing import TYPE_CHECKING, Final, NamedTuple

from sentryfw.engine.model import Source, source_of_key, source_text
from sentryfw.errors import NotFound, UsageError
from sentryfw.netfilter.schema import (
    CUT_SETS,
    NETWORK_SETS,
    NEVER_BLOCK_SETS,
    SUSPECT_SETS,
    TABLE,
    TIMED_SETS,
)
from sentryfw.netfilter.sets import elements, whole
from sentryfw.netfilter.sets.counts import element_count
from sentryfw.netfilter.sets.decisions import DecisionSets
from sentryfw.netfilter.sets.elements import TimedElement, key_of
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.set_elements import Element, Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket

if TYPE_CHECKING:
    from sentryfw.config.types import IPNetwork

RESTORE_BATCH: Final = 100_000
"""Elements in one transaction, 0.4 s, during which all other transactions wait. A million in one
transaction takes 8 to 10 s, in batches 4 (measured)."""
LIVE_BATCH: Final = 2_000
"""Elements in one transaction while packets are judged: a block waits for it some milliseconds."""


class Blocked(NamedTuple):
    """A block, as the kernel holds it."""

    address: str
    """An IPv4 address, an IPv6 /64 or whole address, or a network."""
    family: int
    """4 or 6."""
    timeout: float
    """Configured lifetime in seconds; 0: until it is unblocked."""
    expires: float
    """Seconds left of the timeout."""
    packets: int
    """Packets and bytes that the block has dropped."""
    bytes: int


class BlockedRange(NamedTuple):
    """A blocked network, as an interval set holds it."""

    first: bytes
    end: bytes | None
    """The first address after the range; None: it holds the last address of the family."""
    life: Lifetime

    def networks(self) -> "list[IPNetwork]":
        """Return the range as networks: one, unless an operator added another range by hand."""
        return list(set_elements.networks_of(self.first, self.end))


class BlockSets:
    """The block, never-block, partner and suspect sets of the table, through one netlink socket."""

    def __init__(self, netlink: NfnetlinkSocket) -> None:
        self._netlink = netlink
        self._decisions = DecisionSets(netlink)

    def block(self, blocks: Iterable[tuple[Source, float]], cut: Iterable[Source] = ()) -> None:
        """Block (source, seconds; 0: forever) in one transaction; return when it is acknowledged.

        The live flows of the sources in `cut` end as well.
        """
        ending = frozenset(cut)
        wanted: list[TimedElement] = []
        for source, timeout in blocks:
            name, key = _element(source)
            wanted.append((name, key, timeout))
            if source in ending:
                wanted.append((CUT_SETS[len(key)], key, timeout))
        elements.add_timed(self._netlink, wanted, "block")

    def unblock(self, source: Source) -> None:
        """End the block or confinement of a source, and clear its suspicion.

        Raise NotFound if it is neither blocked nor confined.
        """
        found = elements.delete(self._netlink, *_element(source))
        if not self._decisions.release(source) and not found:
            raise NotFound(f"{source_text(source)} is not blocked")
        self.clear_suspect(source)

    def clear_suspect(self, source: Source) -> None:
        """Remove a source from the suspects: packets that it sends are not held any more."""
        name, key = _element(source, "suspect")
        if elements.get(self._netlink, name, key):  # a transaction that fails costs 10 ms
            elements.delete(self._netlink, name, key)

    def is_blocked(self, source: Source) -> bool:
        """Return whether a source has an element in a block set."""
        return self.find(source) is not None

    def find(self, source: Source) -> Blocked | None:
        """Return the block of one source; None if it is not blocked."""
        return _of(elements.get(self._netlink, *_element(source)))

    def is_partner(self, source: Source) -> bool:
        """Return whether the source has finished a handshake with a listed service."""
        return elements.get(self._netlink, *_element(source, "partner")) is not None

    def partners_among(self, sources: Iterable[Source]) -> set[Source]:
        """Return those of these sources that are partners; the kernel is asked for all at once."""
        keys: dict[str, dict[bytes, Source]] = {}
        for source in sources:
            name, key = _element(source, "partner")
            keys.setdefault(name, {})[key] = source
        return {
            by_key[key]
            for name, by_key in keys.items()
            for key in elements.existing(self._netlink, name, list(by_key))
        }

    def is_suspect(self, source: Source) -> bool:
        """Return whether a probe of the source is still being judged."""
        return elements.get(self._netlink, *_element(source, "suspect")) is not None

    def blocked_sources(
        self, families: Iterable[int] = (4, 6), warn: whole.Warn = bool
    ) -> Iterator[Blocked]:
        """Yield the blocks in block4 and block6; see whole.read_elements()."""
        for family in families:
            yield from map(blocked_of, whole.read_elements(self._netlink, f"block{family}", warn))

    def find_all(self, family: int, keys: list[bytes]) -> dict[bytes, Blocked]:
        """Return the blocks of those keys that are in block4 or block6."""
        found = elements.ask_each(self._netlink, f"block{family}", keys)
        return {
            key: Blocked(key_address(key), family, timeout / 1000, left / 1000, packets, size)
            for key, timeout, left, packets, size in found
        }

    def block_network(self, network: "IPNetwork", timeout: float) -> None:
        """Block a network for `timeout` seconds; 0: until it is unblocked.

        Raise UsageError if it overlaps another one. nft 1.0.6 itself reads 28 hours at most.
        """
        transaction = []
        for blocked in self.blocked_networks():
            other = ip_network(blocked.address)
            if other == network:
                transaction.append(_network_request(nl.NFT_MSG_DELSETELEM, network))
            elif other.version == network.version and other.overlaps(network):
                problem = f"{network} overlaps {other}, which is blocked: unblock that first"
                raise UsageError(problem)
        life = Lifetime(timeout, timeout)
        transaction.append(_network_request(nl.NFT_MSG_NEWSETELEM, network, life))
        self._netlink.transact(transaction, f"block {network}")

    def change_networks(
        self, removed: "Iterable[IPNetwork]", added: "Iterable[tuple[IPNetwork, float]]"
    ) -> None:
        """Unblock networks, which are blocked, and block others for as many seconds, in one
        transaction. None of the others may overlap a network that stays."""
        transaction = [_network_request(nl.NFT_MSG_DELSETELEM, network) for network in removed]
        for network, seconds in added:
            life = Lifetime(seconds, seconds)
            transaction.append(_network_request(nl.NFT_MSG_NEWSETELEM, network, life))
        if transaction:
            self._netlink.grow(elements.TRANSACTION_BUFFER_BYTES)
            self._netlink.transact(transaction, "change blocked networks")

    def unblock_network(self, network: "IPNetwork") -> None:
        """Unblock a network. Raise NotFound if it is not blocked."""
        if str(network) not in {blocked.address for blocked in self.blocked_networks()}:
            raise NotFound(f"{network} is not blocked")
        self._netlink.transact([_network_request(nl.NFT_MSG_DELSETELEM, network)], "unblock")

    def blocked_networks(self) -> list[Blocked]:
        """Return the blocks in block_net4 and block_net6, through netlink: the daemon asks too."""
        return [
            Blocked(str(network), network.version, *start[1:5])
            for name in NETWORK_SETS
            for start, end in _intervals(self._netlink, name)
            for network in set_elements.networks_of(start.key, end)
        ]

    def never_blocked(self) -> "list[IPNetwork]":
        """Return the networks in never_block4 and never_block6."""
        return [
            network
            for name in NEVER_BLOCK_SETS
            for start, end in _intervals(self._netlink, name)
            for network in set_elements.networks_of(start.key, end)
        ]

    def is_never_blocked(self, network: "IPNetwork") -> bool:
        """Return whether one element of the never-block sets holds the whole network."""
        name = f"never_block{network.version}"
        ends = [elements.get(self._netlink, name, network[at].packed) for at in (0, -1)]
        return ends[0] is not None and ends[0] == ends[1]

    def count_blocked(self) -> dict[int, int]:
        """Return the number of blocks of each family.

        Of many, blocks that expired within the last half minute may count too.
        """
        counts = Counter(blocked.family for blocked in self.blocked_networks())
        return {
            family: element_count(self._netlink, f"block{family}") + counts[family]
            for family in (4, 6)
        }

    def blocks(self) -> list[Blocked]:
        """Return the blocked sources and networks."""
        return [*self.blocked_sources(), *self.blocked_networks()]

    def unblock_all(self) -> int:
        """Empty every set of decisions and the suspects; return the number of blocks there were."""
        count = sum(self.count_blocked().values())
        names = (*TIMED_SETS, *SUSPECT_SETS)
        flushes = [(nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)) for name in names]
        self._netlink.transact(flushes, "unblock everything")
        return count


# --- blocks by the hundred thousand, on a socket of the caller's own


def dump_lifetimes(netlink: NfnetlinkSocket, name: str) -> Iterator[dict[bytes, Lifetime]]:
    """Yield the lifetimes in block4 or block6 by key, some hundred at a time, as they arrive."""
    for part in elements.dump(netlink, name):
        yield {element.key: Lifetime(element.timeout, element.expires) for element in part}


def find_packets(netlink: NfnetlinkSocket, name: str, keys: list[bytes]) -> dict[bytes, int]:
    """Return the packets that the blocks in block4 or block6 have dropped, of these keys."""
    found = elements.ask_each(netlink, name, keys, lambda: time.sleep(0))
    return {key: packets for key, _, _, packets, _ in found}


def read_ranges(netlink: NfnetlinkSocket, name: str) -> list[BlockedRange]:
    """Return the intervals of block_net4 or block_net6."""
    return [
        BlockedRange(start.key, end, Lifetime(start.timeout, start.expires))
        for start, end in _intervals(netlink, name)
    ]


def add_elements(
    netlink: NfnetlinkSocket, name: str, lives: dict[bytes, Lifetime], batch: int = RESTORE_BATCH
) -> None:
    """Add elements to block4 or block6, with the rest of their timeouts; `batch` a transaction."""
    netlink.grow(elements.TRANSACTION_BUFFER_BYTES)
    items = iter(lives.items())
    while part := list(itertools.islice(items, batch)):
        netlink.transact(element_requests(name, part), f"{len(part)} elements into {name}")


def element_requests(name: str, lives: Iterable[tuple[bytes, Lifetime]]) -> list[nl.NftRequest]:
    """Return the requests that add elements to block4 or block6."""
    return _new_elements(name, (set_elements.packed_element(key, life) for key, life in lives))


def range_requests(name: str, ranges: Iterable[BlockedRange]) -> list[nl.NftRequest]:
    """Return the requests that add intervals to block_net4 or block_net6."""
    return _new_elements(name, (set_elements.packed_interval(*item) for item in ranges))


def _intervals(netlink: NfnetlinkSocket, name: str) -> Iterator[tuple[Element, bytes | None]]:
    return set_elements.intervals(whole.read_intervals(netlink, name))


def _network_request(
    message: int, network: "IPNetwork", life: Lifetime = set_elements.PERMANENT
) -> nl.NftRequest:
    size = network.max_prefixlen // 8
    packed = set_elements.packed_range(int(network[0]), int(network[-1]), size, life)
    [(_, flags, body)] = _new_elements(f"block_net{network.version}", [packed])
    return message, flags if message == nl.NFT_MSG_NEWSETELEM else 0, body


def _new_elements(name: str, packed: Iterable[bytes]) -> list[nl.NftRequest]:
    parts = set_elements.payloads(packed)
    return [set_elements.new_elements(TABLE, name, payload) for payload in parts]


def _element(source: Source, name: str = "block") -> tuple[str, bytes]:
    """Return the set of a source, and its key there."""
    return f"{name}{4 if len(source) == 4 else 6}", key_of(source)


def _of(element: Element | None) -> Blocked | None:
    return None if element is None else blocked_of(element)


def blocked_of(element: Element) -> Blocked:
    """Return the block, or the confinement, of an element."""
    key, timeout, expires, packets, size, _ = element
    return Blocked(key_address(key), 4 if len(key) == 4 else 6, timeout, expires, packets, size)


def key_address(key: bytes) -> str:
    """Return the source of a key as text; by inet_ntoa, because a list may hold a million."""
    return inet_ntoa(key) if len(key) == 4 else source_text(source_of_key(key))
