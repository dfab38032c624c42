"""Snapshots of our table as the kernel dumps it, in messages that create it again.

The kernel's own dump of tables, chains, sets and rules is also what it takes as input, except for
handles and the names of anonymous sets. So a table that install loaded through libnftables can be
repaired in one transaction, with queue rule and active blocks, in any thread, without libnftables.

See docs/decisions.md: repair-from-dump.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from sentryfw.netfilter.schema import TABLE, TIMED_SETS
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import (
    NLA_F_NESTED,
    NLM_F_APPEND,
    NLM_F_CREATE,
    attribute,
    attribute_list,
    attributes,
    name_of,
    raw_attributes,
)
from sentryfw.netlink.set_elements import element_payload, new_elements, ranges_in
from sentryfw.netlink.socket import NfnetlinkSocket

_TABLE_KEEPS: Final = frozenset({nl.NFTA_TABLE_NAME, nl.NFTA_TABLE_USERDATA})
_CHAIN_KEEPS: Final = frozenset(
    {
        nl.NFTA_CHAIN_TABLE, nl.NFTA_CHAIN_NAME, nl.NFTA_CHAIN_HOOK, nl.NFTA_CHAIN_POLICY,
        nl.NFTA_CHAIN_TYPE, nl.NFTA_CHAIN_USERDATA,
    }
)  # fmt: skip
_SET_KEEPS: Final = frozenset(
    {
        nl.NFTA_SET_TABLE, nl.NFTA_SET_NAME, nl.NFTA_SET_FLAGS, nl.NFTA_SET_KEY_TYPE,
        nl.NFTA_SET_KEY_LEN, nl.NFTA_SET_DATA_TYPE, nl.NFTA_SET_DATA_LEN, nl.NFTA_SET_POLICY,
        nl.NFTA_SET_DESC, nl.NFTA_SET_TIMEOUT, nl.NFTA_SET_GC_INTERVAL, nl.NFTA_SET_USERDATA,
        nl.NFTA_SET_OBJ_TYPE, nl.NFTA_SET_EXPR, nl.NFTA_SET_EXPRESSIONS,
    }
)  # fmt: skip
"""All of enum nft_set_attributes except ID, PAD, HANDLE, and what later kernels only report."""
_OBJECT_KEEPS: Final = frozenset(
    {
        nl.NFTA_OBJ_TABLE, nl.NFTA_OBJ_NAME, nl.NFTA_OBJ_TYPE, nl.NFTA_OBJ_DATA,
        nl.NFTA_OBJ_USERDATA,
    }
)  # fmt: skip


class SetPlan(NamedTuple):
    """A set and, unless blocks or rules fill it, its elements."""

    name: str
    attributes: bytes
    anonymous: bool
    elements: tuple[bytes, ...]
    """Payloads of NFTA_SET_ELEM_LIST_ELEMENTS."""

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of an interval set, as the first and the last key of each."""
        return ranges_in(self.elements)


class RulePlan(NamedTuple):
    """A rule of a chain."""

    chain: str
    expressions: bytes
    """The payload of NFTA_RULE_EXPRESSIONS, with the kernel's names of anonymous sets."""
    shape: bytes
    """The expressions without those names, which differ between two equal tables."""
    userdata: bytes


class TableSnapshot(NamedTuple):
    """Our table: the attributes of each object that a transaction can create."""

    table: bytes
    chains: dict[str, bytes]
    objects: dict[str, bytes]
    sets: dict[str, SetPlan]
    """Named and anonymous sets."""
    rules: tuple[RulePlan, ...]

    def missing_from(self, there: "TableSnapshot | None") -> list[str]:
        """Return the names of the parts that are missing or altered in another snapshot.

        Additional rules and elements in the other snapshot, an operator's own, do not count.
        """
        if there is None:
            return ["table"]
        found = [f"chain {n}" for n, body in self.chains.items() if there.chains.get(n) != body]
        found += [f"counter {name}" for name in self.objects if name not in there.objects]
        for name, plan in self.sets.items():
            if plan.anonymous:
                continue
            other = there.sets.get(name)
            if other is None or other.attributes != plan.attributes:
                found.append(f"set {name}")
            elif not _identities(plan.elements) <= _identities(other.elements):
                found.append(f"elements of set {name}")
        for chain in self.chains:
            if not _in_order(self._shapes(chain), there._shapes(chain)):  # noqa: SLF001
                found.append(f"rules of chain {chain}")
        return found

    def with_elements(self, elements: Mapping[str, tuple[bytes, ...]]) -> "TableSnapshot":
        """Return the snapshot with these elements of sets, by the sets' names."""
        replaced = {
            name: self.sets[name]._replace(elements=payloads) for name, payloads in elements.items()
        }
        return self._replace(sets=self.sets | replaced)

    def _shapes(self, chain: str) -> Iterator[bytes]:
        return (rule.shape for rule in self.rules if rule.chain == chain)

    def requests(self) -> list[nl.NftRequest]:
        """Return the transaction that creates or repairs the table; sets keep their elements."""
        create = NLM_F_CREATE
        ours = nl.text(nl.NFTA_RULE_TABLE, TABLE)
        made: list[nl.NftRequest] = [
            (nl.NFT_MSG_NEWTABLE, create, self.table),
            (nl.NFT_MSG_DELRULE, 0, ours),  # all of them, and with them the anonymous sets
        ]
        made += ((nl.NFT_MSG_NEWCHAIN, create, body) for body in self.chains.values())
        made += ((nl.NFT_MSG_NEWOBJ, create, body) for body in self.objects.values())
        identities: dict[str, int] = {}
        for number, plan in enumerate(self.sets.values(), 1):
            made += _set_requests(plan, number)
            if plan.anonymous:
                identities[plan.name] = number
        for rule in self.rules:
            expressions = _with_identities(rule.expressions, identities)
            body = ours + nl.text(nl.NFTA_RULE_CHAIN, rule.chain)
            body += attribute(nl.NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, expressions)
            made.append((nl.NFT_MSG_NEWRULE, create | NLM_F_APPEND, body + rule.userdata))
        return made


def read(netlink: NfnetlinkSocket, without: Collection[str] = ()) -> TableSnapshot | None:
    """Return a snapshot of the installed table; None without a table.

    `without`: sets whose elements are left out.
    """
    tables = netlink.dump(nl.NFT_MSG_GETTABLE, b"", "tables")
    ours = [r.body[4:] for r in tables if _name(r.body[4:], nl.NFTA_TABLE_NAME) == TABLE]
    if not ours:
        return None
    chains = _dump(netlink, nl.NFT_MSG_GETCHAIN, "chains")
    objects = _dump(netlink, nl.NFT_MSG_GETOBJ, "counters")
    plans = [_set_plan(netlink, b, without) for b in _dump(netlink, nl.NFT_MSG_GETSET, "sets")]
    anonymous = frozenset(plan.name for plan in plans if plan.anonymous)
    rules = _dump(netlink, nl.NFT_MSG_GETRULE, "rules")
    return TableSnapshot(
        _pick(ours[0], _TABLE_KEEPS),
        {_name(body, nl.NFTA_CHAIN_NAME): _pick(body, _CHAIN_KEEPS) for body in chains},
        {_name(body, nl.NFTA_OBJ_NAME): _pick(body, _OBJECT_KEEPS) for body in objects},
        {plan.name: plan for plan in plans},
        tuple(_rule_plan(body, anonymous) for body in rules),
    )


def element_lists(netlink: NfnetlinkSocket, name: str) -> tuple[bytes, ...]:
    """Return the elements of a set as payloads, which new_elements() adds again."""
    replies = netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}")
    return tuple(payload for payload in map(element_payload, replies) if payload)


def _dump(netlink: NfnetlinkSocket, kind: int, what: str) -> list[bytes]:
    """Return the attributes of every object of a kind in our table.

    The first attribute of each object's message names the table.
    """
    body = nl.text(nl.NFTA_RULE_TABLE, TABLE)
    replies = (reply.body[4:] for reply in netlink.dump(kind, body, what))
    return [body for body in replies if _name(body, nl.NFTA_RULE_TABLE) == TABLE]


def _set_plan(netlink: NfnetlinkSocket, body: bytes, without: Collection[str]) -> SetPlan:
    fields = attributes(body)
    name = name_of(fields[nl.NFTA_SET_NAME])
    flags = int.from_bytes(fields.get(nl.NFTA_SET_FLAGS, b""))
    ours = not flags & nl.NFT_SET_EVAL and name not in TIMED_SETS and name not in without
    elements = element_lists(netlink, name) if ours else ()
    return SetPlan(name, _pick(body, _SET_KEEPS), bool(flags & nl.NFT_SET_ANONYMOUS), elements)


def _set_requests(plan: SetPlan, number: int) -> Iterator[nl.NftRequest]:
    """Yield the requests that create a set, and its elements; `number` is its NFTA_SET_ID."""
    body = plan.attributes
    name = plan.name
    if plan.anonymous:
        name = "__set%d"  # the kernel numbers them
        body = _replace_name(body, nl.NFTA_SET_NAME, name)
    identity = nl.u32(nl.NFTA_SET_ID, number)
    yield nl.NFT_MSG_NEWSET, NLM_F_CREATE, body + identity
    if plan.elements and not plan.anonymous:
        yield nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)  # all of them
    for payload in plan.elements:
        yield new_elements(TABLE, name, payload, number if plan.anonymous else 0)


def _rule_plan(body: bytes, anonymous: frozenset[str]) -> RulePlan:
    fields = attributes(body)
    expressions = fields.get(nl.NFTA_RULE_EXPRESSIONS, b"")
    return RulePlan(
        name_of(fields[nl.NFTA_RULE_CHAIN]),
        expressions,
        _with_identities(expressions, dict.fromkeys(anonymous, 0)),
        _pick(body, frozenset({nl.NFTA_RULE_USERDATA})),
    )


def _with_identities(expressions: bytes, identities: dict[str, int]) -> bytes:
    """Replace the names of anonymous sets in lookups by their NFTA_SET_ID, where it is given."""
    made = []
    for _, whole, payload in raw_attributes(expressions):
        fields = attributes(payload)
        if name_of(fields.get(nl.NFTA_EXPR_NAME, b"")) == "lookup":
            data = fields[nl.NFTA_EXPR_DATA]
            name = _name(data, nl.NFTA_LOOKUP_SET)
            if name in identities:
                data = _replace_name(data, nl.NFTA_LOOKUP_SET, "__set%d")
                data += nl.u32(nl.NFTA_LOOKUP_SET_ID, identities[name])
                expression = nl.text(nl.NFTA_EXPR_NAME, "lookup")
                expression += attribute(nl.NFTA_EXPR_DATA | NLA_F_NESTED, data)
                made.append(nl.nested(nl.NFTA_LIST_ELEM, expression))
                continue
        made.append(whole)
    return b"".join(made)


def _replace_name(body: bytes, kind: int, name: str) -> bytes:
    return b"".join(
        nl.text(kind, name) if k == kind else whole for k, whole, _ in raw_attributes(body)
    )


def _pick(body: bytes, kinds: frozenset[int]) -> bytes:
    return b"".join(whole for kind, whole, _ in raw_attributes(body) if kind in kinds)


def _name(body: bytes, kind: int) -> str:
    return name_of(attributes(body).get(kind, b""))


def _identities(payloads: Iterable[bytes]) -> set[tuple[bytes, ...]]:
    """Return what distinguishes each element from the others: its key and flags.

    The kernel reports their attributes in another order than we send them; zero flags may be left
    out.
    """
    items = (attributes(item) for payload in payloads for _, item in attribute_list(payload))
    return {
        (
            fields.get(nl.NFTA_SET_ELEM_KEY, b""),
            fields.get(nl.NFTA_SET_ELEM_KEY_END, b""),
            fields.get(nl.NFTA_SET_ELEM_FLAGS, b"").strip(b"\0"),
        )
        for fields in items
    }


def _in_order(wanted: Iterator[bytes], there: Iterator[bytes]) -> bool:
    """Return whether all of `wanted` are in `there`, in their order."""
    return all(any(shape == other for other in there) for shape in wanted)
