"""The table itself: whether it is installed, its rules and its counters."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from sentryfw.engine.networks import NetworkIndex, Range
from sentryfw.errors import KernelError, NotInstalled, SentryError
from sentryfw.netfilter.block_sets import BlockSets
from sentryfw.netfilter.schema import (
    COMMENT_PREFIX,
    NEVER_BLOCK_SETS,
    OFF_TABLE,
    ONLINK_SETS,
    TABLE,
    WHOLE_SET,
)
from sentryfw.netfilter.sets.decisions import DecisionSets
from sentryfw.netfilter.sets.mirror import MirrorSets
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.message import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    attribute_list,
    attributes,
    name_of,
)
from sentryfw.netlink.socket import NfnetlinkSocket

if TYPE_CHECKING:
    from sentryfw.config.types import IPNetwork


SWITCHED_OFF: Final = (
    f"switched off by table inet {OFF_TABLE}: nothing is judged or blocked. `sentryfw install`"
    " switches it on again"
)


_DIFFERS: Final = frozenset({errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EBUSY})
"""Errors of a difference that does not fit what a set holds."""


class Counter(NamedTuple):
    """The state of a named counter of the table."""

    packets: int
    bytes: int


def is_table(netlink: NfnetlinkSocket, name: str) -> bool:
    """Return whether there is a table inet of this name."""
    try:
        body = nl.text(nl.NFTA_TABLE_NAME, name)
        return any(True for _ in netlink.request(nl.NFT_MSG_GETTABLE, body, f"table {name}"))
    except KernelError as error:
        if error.code != errno.ENOENT:
            raise
        return False


def delete_table(netlink: NfnetlinkSocket, name: str) -> None:
    """Delete a table inet, if it exists."""
    body = nl.text(nl.NFTA_TABLE_NAME, name)
    try:
        netlink.transact([(nl.NFT_MSG_DELTABLE, 0, body)], f"delete table inet {name}")
    except KernelError as error:
        if error.code != errno.ENOENT:
            raise


class Table:
    """`table inet sentryfw` of this network namespace."""

    def __init__(self) -> None:
        self._netlink = NfnetlinkSocket()
        self.sets = BlockSets(self._netlink)
        self.decisions = DecisionSets(self._netlink)
        self.mirror = MirrorSets(self._netlink)

    def close(self) -> None:
        self._netlink.close()

    @property
    def port(self) -> int:
        """The netlink port id of our socket, which the kernel puts into notifications."""
        return self._netlink.port

    # --- the table itself

    def comment(self) -> str | None:
        """Return the table's comment, empty if it has none; None without a table."""
        body = nl.text(nl.NFTA_TABLE_NAME, TABLE)
        try:
            for reply in self._netlink.request(nl.NFT_MSG_GETTABLE, body, f"table inet {TABLE}"):
                userdata = attributes(reply.body[4:]).get(nl.NFTA_TABLE_USERDATA, b"")
                return nl.comment_of(userdata) or ""
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
        return None

    def is_installed(self) -> bool:
        """Return whether our table exists. Raise SentryError if the table of that name is not ours.

        SentryFW recognises its table by the comment.
        """
        comment = self.comment()
        if comment is not None and not comment.startswith(COMMENT_PREFIX):
            raise SentryError(
                f"there is a table inet {TABLE} that SentryFW did not make (its comment is"
                f" {comment!r}); nothing was changed. Rename or delete it first:"
                f" nft delete table inet {TABLE}"
            )
        return comment is not None

    def require(self) -> None:
        """Raise NotInstalled without our table."""
        if not self.is_installed():
            self.require_on()
            raise NotInstalled("SentryFW is not installed here: run `sentryfw install`")

    # --- networks

    def replace_never_block(
        self, networks: NetworkIndex, known: NetworkIndex | None = None
    ) -> None:
        """Replace the elements of never_block4 and never_block6 in one transaction.

        `known`: what the sets should hold before. Then only what differs is sent, 20 ms instead of
        seconds where there are 100,000; everything is, if the kernel refuses the difference.
        """
        if known is not None:
            try:
                _change_networks(self._netlink, NEVER_BLOCK_SETS, networks, known, "never-block")
            except KernelError as error:  # other programs have changed the set
                if error.code not in _DIFFERS:
                    raise
            else:
                return
        _replace_networks(self._netlink, {NEVER_BLOCK_SETS: networks}, "never-block")

    def replace_neighbours(
        self, onlink: "Iterable[IPNetwork]", whole6: "Iterable[IPNetwork]"
    ) -> None:
        """Replace the networks of neighbours, and those whose addresses are sources."""
        wanted = {ONLINK_SETS: NetworkIndex(onlink), (WHOLE_SET,): NetworkIndex(whole6)}
        _replace_networks(self._netlink, wanted, "neighbours")

    def is_switched_off(self) -> bool:
        """Return whether an operator made the table that switches SentryFW off."""
        return is_table(self._netlink, OFF_TABLE)

    def require_on(self) -> None:
        """Raise NotInstalled if an operator switched SentryFW off."""
        if self.is_switched_off():
            raise NotInstalled(SWITCHED_OFF)

    def delete(self) -> None:
        """Delete our table, if it exists."""
        delete_table(self._netlink, TABLE)

    def switch_on(self) -> None:
        """Delete the table that switches SentryFW off."""
        delete_table(self._netlink, OFF_TABLE)

    # --- rules

    def append_rule(self, body: bytes, what: str, *, commit: bool = True) -> None:
        """Append a rule, the body of NFT_MSG_NEWRULE, to its chain."""
        flags = NLM_F_CREATE | NLM_F_APPEND
        self._netlink.transact([(nl.NFT_MSG_NEWRULE, flags, body)], what, commit=commit)

    def replace_rule(self, body: bytes, handle: int, what: str) -> None:
        """Replace the rule of a handle by another, the body of NFT_MSG_NEWRULE."""
        whole = body + nl.u64(nl.NFTA_RULE_HANDLE, handle)
        self._netlink.transact([(nl.NFT_MSG_NEWRULE, NLM_F_REPLACE, whole)], what)

    def delete_rule(self, chain: str, handle: int) -> None:
        """Delete the rule of a handle."""
        body = nl.text(nl.NFTA_RULE_TABLE, TABLE) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        body += nl.u64(nl.NFTA_RULE_HANDLE, handle)
        self._netlink.transact([(nl.NFT_MSG_DELRULE, 0, body)], f"chain {chain}: delete a rule")

    def last_rule(self, chain: str) -> int:
        """Return the handle of a chain's last rule. Raise SentryError if the chain is empty."""
        *_, fields = [None, *self._rules(chain)]
        if fields is None:
            raise SentryError(f"chain {chain} has no rule")
        return int.from_bytes(fields[nl.NFTA_RULE_HANDLE])

    def rule_expressions(self, chain: str) -> Iterator[str]:
        """Yield the name of each expression in the chain's rules, in order."""
        for fields in self._rules(chain):
            for _, item in attribute_list(fields.get(nl.NFTA_RULE_EXPRESSIONS, b"")):
                yield name_of(attributes(item).get(nl.NFTA_EXPR_NAME, b""))

    def _rules(self, chain: str) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of each rule of a chain, in order."""
        body = nl.text(nl.NFTA_RULE_TABLE, TABLE) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        for reply in self._netlink.dump(nl.NFT_MSG_GETRULE, body, f"chain {chain}"):
            fields = attributes(reply.body[4:])
            if name_of(fields.get(nl.NFTA_RULE_CHAIN, b"")) == chain:
                yield fields  # kernels that ignore the filter send every rule of the table

    # --- counters

    def counter(self, name: str) -> Counter | None:
        """Return one of the table's named counters; None if it does not exist."""
        body = (
            nl.text(nl.NFTA_OBJ_TABLE, TABLE)
            + nl.text(nl.NFTA_OBJ_NAME, name)
            + nl.u32(nl.NFTA_OBJ_TYPE, nl.NFT_OBJECT_COUNTER)
        )
        try:
            for reply in self._netlink.request(nl.NFT_MSG_GETOBJ, body, f"counter {name}"):
                data = attributes(reply.body[4:]).get(nl.NFTA_OBJ_DATA, b"")
                return Counter(*nl.counter_of(data))
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
        return None

    def counters(self) -> dict[str, Counter]:
        """Return the table's named counters."""
        found = {}
        body = nl.text(nl.NFTA_OBJ_TABLE, TABLE)
        for reply in self._netlink.dump(nl.NFT_MSG_GETOBJ, body, "counters"):
            fields = attributes(reply.body[4:])
            if name_of(fields.get(nl.NFTA_OBJ_TABLE, b"")) == TABLE:
                data = fields.get(nl.NFTA_OBJ_DATA, b"")
                found[name_of(fields[nl.NFTA_OBJ_NAME])] = Counter(*nl.counter_of(data))
        return found


def _replace_networks(
    netlink: NfnetlinkSocket, wanted: Mapping[tuple[str, ...], NetworkIndex], what: str
) -> None:
    """Replace the elements of interval sets, each by the networks of its family.

    A network that is in both the old and the new elements is never absent.
    """
    transaction: list[nl.NftRequest] = []
    for names, networks in wanted.items():
        for name in names:
            transaction.append((nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)))
            ranges = networks.ranges(_family(name))
            transaction += _requests(set_elements.new_elements, name, ranges)
    _transact(netlink, transaction, what)


def _change_networks(
    netlink: NfnetlinkSocket,
    names: Iterable[str],
    networks: NetworkIndex,
    known: NetworkIndex,
    what: str,
) -> None:
    """Change the elements of interval sets only where the networks differ from the known ones."""
    transaction: list[nl.NftRequest] = []
    for name in names:
        gone, added = networks.changes(known, _family(name))
        transaction += _requests(set_elements.old_elements, name, gone)
        transaction += _requests(set_elements.new_elements, name, added)
    _transact(netlink, transaction, what)


def _transact(netlink: NfnetlinkSocket, transaction: list[nl.NftRequest], what: str) -> None:
    if transaction:
        netlink.grow(sum(len(body) for _, _, body in transaction) + (1 << 18))
        netlink.transact(transaction, what)


def _requests(
    change: Callable[[str, str, bytes], nl.NftRequest], name: str, ranges: list[Range]
) -> list[nl.NftRequest]:
    return [change(TABLE, name, payload) for payload in _payloads(name, ranges)]


def _payloads(name: str, ranges: Iterable[Range]) -> Iterator[bytes]:
    """Yield the payloads that hold these ranges as elements of a set."""
    size = 4 if _family(name) == 4 else 16
    packed = (set_elements.packed_range(first, last, size) for first, last in ranges)
    return set_elements.payloads(packed)


def never_block_elements(networks: NetworkIndex) -> dict[str, tuple[bytes, ...]]:
    """Return the elements of the never-block sets that hold these networks, as payloads by set."""
    return {
        name: tuple(_payloads(name, networks.ranges(_family(name)))) for name in NEVER_BLOCK_SETS
    }


def _family(name: str) -> int:
    """Return the family of a set's addresses."""
    return 4 if name.endswith("4") else 6
