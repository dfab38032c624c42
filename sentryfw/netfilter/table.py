"""The table's contents in our verbs: block, unblock, blocks, counters.

Single elements go through netlink directly (16 us against 100 us through libnftables, and
against 15 ms where any table on the host holds a big interval set); networks are few and go
through libnftables, which knows how to make intervals of them.
"""

import errno
import itertools
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from socket import inet_ntoa
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentryfw.engine.model import Source, source_of, source_text
from sentryfw.errors import KernelError, NotFound, NotInstalled, SentryError, UsageError
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.elements import Reader
from sentryfw.netfilter.netlink import NfnetlinkSocket

if TYPE_CHECKING:
    from sentryfw.netfilter.libnftables import Libnftables

TABLE: Final = "sentryfw"
SCHEMA: Final = 1
COMMENT: Final = f"SentryFW schema {SCHEMA}"
OURS: Final = "SentryFW schema "
EXACT: Final = 4096
"""Elements that are counted one by one."""
NEVER_BLOCK_SETS: Final = ("never_block4", "never_block6")

IPNetwork = IPv4Network | IPv6Network


class Blocked(NamedTuple):
    """What the kernel holds of a block."""

    address: str
    """An IPv4 address, an IPv6 /64 or link-local address, or a network."""
    family: int
    """4 or 6."""
    timeout: float
    """Seconds; 0: until it is unblocked."""
    expires: float
    packets: int
    bytes: int


class Counter(NamedTuple):
    packets: int
    bytes: int


class Table:
    """`table inet sentryfw` of this network namespace."""

    def __init__(self) -> None:
        self._netlink = NfnetlinkSocket()
        self._libnftables: Libnftables | None = None

    def close(self) -> None:
        self._netlink.close()

    @property
    def port(self) -> int:
        """What the kernel calls our socket, in what it tells others."""
        return self._netlink.port

    # --- the table itself

    def comment(self) -> str | None:
        """The table's comment; None without a table. A table of that name without our comment
        gives an empty one."""
        body = nl.text(nl.NFTA_TABLE_NAME, TABLE)
        try:
            for reply in self._netlink.request(nl.NFT_MSG_GETTABLE, body, f"table inet {TABLE}"):
                userdata = nl.attributes(reply.body[4:]).get(nl.NFTA_TABLE_USERDATA, b"")
                return nl.comment_of(userdata) or ""
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
        return None

    def is_installed(self) -> bool:
        """Whether our table is there. SentryError if the table of that name is not ours."""
        comment = self.comment()
        if comment is not None and not comment.startswith(OURS):
            raise SentryError(
                f"there is a table inet {TABLE} that SentryFW did not make (its comment is"
                f" {comment!r}); nothing was changed. Rename or delete it first:"
                f" nft delete table inet {TABLE}"
            )
        return comment is not None

    def require(self) -> None:
        if not self.is_installed():
            raise NotInstalled("SentryFW is not installed here: run `sentryfw install`")

    def append_rule(self, body: bytes, what: str, *, commit: bool = True) -> None:
        """NFT_MSG_NEWRULE at the end of its chain."""
        flags = nl.NLM_F_CREATE | nl.NLM_F_APPEND
        self._netlink.transact([(nl.NFT_MSG_NEWRULE, flags, body)], what, commit=commit)

    def replace_rule(self, body: bytes, handle: int, what: str) -> None:
        """NFT_MSG_NEWRULE in the place of a rule."""
        whole = body + nl.u64(nl.NFTA_RULE_HANDLE, handle)
        self._netlink.transact([(nl.NFT_MSG_NEWRULE, nl.NLM_F_REPLACE, whole)], what)

    def delete_rule(self, chain: str, handle: int) -> None:
        body = nl.text(nl.NFTA_RULE_TABLE, TABLE) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        body += nl.u64(nl.NFTA_RULE_HANDLE, handle)
        self._netlink.transact([(nl.NFT_MSG_DELRULE, 0, body)], f"chain {chain}: delete a rule")

    def last_rule(self, chain: str) -> int:
        """The handle of a chain's last rule. SentryError if there is none."""
        *_, fields = [None, *self._rules(chain)]
        if fields is None:
            raise SentryError(f"chain {chain} has no rule")
        return int.from_bytes(fields[nl.NFTA_RULE_HANDLE])

    def rule_expressions(self, chain: str) -> Iterator[str]:
        """The name of each expression in the chain's rules, in order."""
        for fields in self._rules(chain):
            for _, item in nl.attribute_list(fields.get(nl.NFTA_RULE_EXPRESSIONS, b"")):
                yield nl.name_of(nl.attributes(item).get(nl.NFTA_EXPR_NAME, b""))

    def _rules(self, chain: str) -> Iterator[dict[int, bytes]]:
        """The attributes of each of the chain's rules, in order."""
        body = nl.text(nl.NFTA_RULE_TABLE, TABLE) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        for reply in self._netlink.dump(nl.NFT_MSG_GETRULE, body, f"chain {chain}"):
            fields = nl.attributes(reply.body[4:])
            if nl.name_of(fields.get(nl.NFTA_RULE_CHAIN, b"")) == chain:
                yield fields  # kernels that ignore the filter send every rule of the table

    # --- blocks

    def block(self, blocks: Iterable[tuple[Source, float]]) -> None:
        """Block sources for so many seconds, in one transaction; returns acknowledged.

        add, delete, add: whether the element was there or not it ends with the new timeout,
        also on kernels that keep the old one of an element added again (before 6.12).
        """
        create = nl.NLM_F_CREATE
        transaction = []
        for source, timeout in blocks:
            name, key = _element(source)
            plain = nl.set_element(TABLE, name, key)
            timed = nl.set_element(TABLE, name, key, timeout)
            transaction += [
                (nl.NFT_MSG_NEWSETELEM, create, timed),
                (nl.NFT_MSG_DELSETELEM, 0, plain),
                (nl.NFT_MSG_NEWSETELEM, create, timed),
            ]
        self._netlink.transact(transaction, "block")

    def unblock(self, source: Source) -> None:
        """Take a source out, and out of suspicion. NotFound if it was not blocked."""
        name, key = _element(source)
        try:
            self._delete(name, key)
        except KernelError as error:
            if error.code == errno.ENOENT:
                raise NotFound(f"{source_text(source)} is not blocked") from error
            raise
        self.acquit(source)

    def acquit(self, source: Source) -> None:
        """No longer suspect: what the source opens is not held any more."""
        if len(source) == 16:
            source = Source(source[:8])
        name, key = _element(source, "suspect")
        if not self._get(name, key):  # a transaction that fails costs 10 ms
            return
        try:
            self._delete(name, key)
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise

    def is_blocked(self, source: Source) -> bool:
        return self.find(source) is not None

    def find(self, source: Source) -> Blocked | None:
        """The block of one source."""
        for element in self._get(*_element(source)):
            return _blocked(element)
        return None

    def holds(self, name: str, source: Source) -> bool:
        """Whether a source is a "partner", or "suspect"; link-local ones are so by their /64."""
        return bool(self._get(*_element(Source(source[:8]) if len(source) == 16 else source, name)))

    def _get(self, name: str, key: bytes) -> list[nl.Element]:
        """The element of a set, if it is there."""
        body = nl.set_element(TABLE, name, key)
        try:
            replies = list(self._netlink.request(nl.NFT_MSG_GETSETELEM, body, "get element"))
        except KernelError as error:
            if error.code == errno.ENOENT:
                return []
            raise
        return [element for reply in replies for element in nl.elements_of(reply)]

    def blocked_sources(self) -> Iterator[Blocked]:
        """Elements of block4 and block6."""
        for name in ("block4", "block6"):
            yield from map(_blocked, self._elements(name))

    def _delete(self, name: str, key: bytes) -> None:
        body = nl.set_element(TABLE, name, key)
        self._netlink.transact([(nl.NFT_MSG_DELSETELEM, 0, body)], f"delete element from {name}")

    # --- blocked networks

    def block_network(self, network: IPNetwork, timeout: float) -> None:
        """Block a network. UsageError where it overlaps one that is blocked already."""
        seconds = f" timeout {max(1, round(timeout * 1000))}ms" if timeout else ""
        name = f"block_net{network.version}"
        for blocked in self.blocked_networks():
            other = ip_network(blocked.address)
            if other == network:
                self._nft(f"delete element inet {TABLE} {name} {{ {network} }}")
            elif other.version == network.version and other.overlaps(network):
                raise UsageError(
                    f"{network} overlaps {other}, which is blocked: unblock that first"
                )
        self._nft(f"add element inet {TABLE} {name} {{ {network}{seconds} }}")

    def unblock_network(self, network: IPNetwork) -> None:
        if str(network) not in {blocked.address for blocked in self.blocked_networks()}:
            raise NotFound(f"{network} is not blocked")
        self._nft(f"delete element inet {TABLE} block_net{network.version} {{ {network} }}")

    def blocked_networks(self) -> list[Blocked]:
        """Elements of block_net4 and block_net6. By netlink: the daemon lists them too."""
        return [
            blocked
            for family in (4, 6)
            for blocked in _intervals(list(self._elements(f"block_net{family}")), family)
        ]

    def never_blocked(self) -> list[IPNetwork]:
        """What the sets never_block4 and never_block6 hold."""
        return [
            ip_network(interval.address)
            for family in (4, 6)
            for interval in _intervals(list(self._elements(f"never_block{family}")), family)
        ]

    def replace_never_block(self, networks: Iterable[IPNetwork]) -> None:
        """Other elements for never_block4 and never_block6, in one transaction: at no moment is
        anybody in neither the old nor the new ones."""
        given = list(networks)
        transaction = []
        for family, name in zip((4, 6), NEVER_BLOCK_SETS, strict=True):
            everything = nl.set_name(TABLE, name)
            transaction.append((nl.NFT_MSG_DELSETELEM, 0, everything))
            for part in _batches(_merged(n for n in given if n.version == family), 500):
                body = everything + nl.interval_elements(part, 4 if family == 4 else 16)
                transaction.append((nl.NFT_MSG_NEWSETELEM, nl.NLM_F_CREATE, body))
        self._netlink.grow(sum(len(body) for _, _, body in transaction) + (1 << 18))
        self._netlink.transact(transaction, "never-block")

    def count_blocked(self) -> dict[int, int]:
        """How many blocks there are of each family, without looking at each. Of many, what ended
        within the last half minute may be among them."""
        counts = {family: self._count(f"block{family}") for family in (4, 6)}
        for blocked in self.blocked_networks():
            counts[blocked.family] += 1
        return counts

    def _count(self, name: str) -> int:
        """Elements of a set. A dump is exact, but grows with the square of their number; the
        kernel's own count has those in it that have ended and are not yet cleared away."""
        count = count_elements(self._netlink, name)
        if count is not None and count > EXACT:
            return count
        dump = self._netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), "count")
        return sum(map(nl.count_elements, dump))

    def _elements(self, name: str) -> Iterator[nl.Element]:
        body = nl.set_name(TABLE, name)
        reader = Reader()
        for reply in self._netlink.dump(nl.NFT_MSG_GETSETELEM, body, f"set {name}"):
            yield from reader.read(reply)

    def _nft(self, command: str) -> str:
        if self._libnftables is None:
            from sentryfw.netfilter.libnftables import Libnftables  # noqa: PLC0415 - seldom needed

            self._libnftables = Libnftables()
        return self._libnftables.run(command)

    # --- everything

    def blocks(self) -> list[Blocked]:
        """Everything that is blocked now."""
        return [*self.blocked_sources(), *self.blocked_networks()]

    def unblock_all(self) -> int:
        """Empty every block set; how many blocks there were."""
        count = sum(self.count_blocked().values())
        names = ("block4", "block6", "block_net4", "block_net6", "suspect4", "suspect6")
        self._nft("\n".join(f"flush set inet {TABLE} {name}" for name in names))
        return count

    def counter(self, name: str) -> Counter | None:
        """One of the table's named counters; None if it is not there."""
        body = (
            nl.text(nl.NFTA_OBJ_TABLE, TABLE)
            + nl.text(nl.NFTA_OBJ_NAME, name)
            + nl.u32(nl.NFTA_OBJ_TYPE, nl.NFT_OBJECT_COUNTER)
        )
        try:
            for reply in self._netlink.request(nl.NFT_MSG_GETOBJ, body, f"counter {name}"):
                data = nl.attributes(reply.body[4:]).get(nl.NFTA_OBJ_DATA, b"")
                return Counter(*nl.counter_of(data))
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
        return None

    def counters(self) -> dict[str, Counter]:
        """The table's named counters."""
        found = {}
        body = nl.text(nl.NFTA_OBJ_TABLE, TABLE)
        for reply in self._netlink.dump(nl.NFT_MSG_GETOBJ, body, "counters"):
            fields = nl.attributes(reply.body[4:])
            if nl.name_of(fields.get(nl.NFTA_OBJ_TABLE, b"")) == TABLE:
                data = fields.get(nl.NFTA_OBJ_DATA, b"")
                found[nl.name_of(fields[nl.NFTA_OBJ_NAME])] = Counter(*nl.counter_of(data))
        return found


def count_elements(netlink: NfnetlinkSocket, name: str) -> int | None:
    """How many elements a set of ours holds; None where the kernel does not tell."""
    body = nl.text(nl.NFTA_SET_TABLE, TABLE) + nl.text(nl.NFTA_SET_NAME, name)
    for reply in netlink.request(nl.NFT_MSG_GETSET, body, f"set {name}"):
        return nl.set_count(reply)
    return None


def _element(source: Source, name: str = "block") -> tuple[str, bytes]:
    if len(source) == 4:
        return f"{name}4", bytes(source)
    return f"{name}6", bytes(source).ljust(16, b"\0")


def _merged(networks: Iterable[IPNetwork]) -> list[tuple[int, int]]:
    """First and last address of each interval; those that touch are one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((int(n[0]), int(n[-1])) for n in networks):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _batches(items: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _blocked(element: nl.Element) -> Blocked:
    key, timeout, expires, packets, size, _ = element
    if len(key) == 4:  # a hundred thousand of them are listed
        return Blocked(inet_ntoa(key), 4, timeout, expires, packets, size)
    return Blocked(source_text(source_of(key)), 6, timeout, expires, packets, size)


def _intervals(elements: list[nl.Element], family: int) -> Iterator[Blocked]:
    """The networks of an interval set: from a start to the next end, or to the last address."""
    # At one key an interval ends before the next begins.
    elements.sort(key=lambda element: (element.key, not element.is_end))
    last = (1 << (32 if family == 4 else 128)) - 1
    for element, after in itertools.zip_longest(elements, elements[1:]):
        if element.is_end:
            continue
        end = int.from_bytes(after.key) - 1 if after else last
        first, final = (ip_address(n.to_bytes(len(element.key))) for n in (_number(element), end))
        for network in summarize_address_range(first, final):
            yield Blocked(
                str(network), family, element.timeout, element.expires, element.packets,
                element.bytes,
            )  # fmt: skip


def _number(element: nl.Element) -> int:
    return int.from_bytes(element.key)


def networks_of(value: Any) -> list[IPNetwork]:  # noqa: ANN401 - libnftables' JSON
    """An address, a prefix, or a range that somebody added by hand, which may be several."""
    if isinstance(value, dict) and "range" in value:
        first, last = (ip_address(end) for end in value["range"])
        return list(summarize_address_range(first, last))
    if isinstance(value, dict):
        return [ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")]
    return [ip_network(value)]
