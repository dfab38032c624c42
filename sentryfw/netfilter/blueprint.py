"""Our table as the kernel tells it, in messages that make it again: how a damaged table heals.

The kernel's own dump of tables, chains, sets and rules is also what it takes as input, but for
handles and the names of anonymous sets. So what install loaded through libnftables can be put
back in one transaction, queue rule, live blocks and all, in any thread, without libnftables.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import TABLE

NFT_MSG_GETCHAIN: Final = 4
NFT_MSG_NEWSET: Final = 9
NFT_MSG_NEWOBJ: Final = 18

NFTA_TABLE_FLAGS: Final = 2
NFTA_CHAIN_HOOK: Final = 4
NFTA_CHAIN_POLICY: Final = 5
NFTA_CHAIN_TYPE: Final = 7
NFTA_CHAIN_USERDATA: Final = 12
NFTA_SET_FLAGS: Final = 3
NFTA_SET_ID: Final = 10
NFTA_SET_HANDLE: Final = 16
NFTA_SET_ELEM_LIST_SET_ID: Final = 4
NFTA_LOOKUP_SET: Final = 1
NFTA_LOOKUP_SET_ID: Final = 4
NFTA_OBJ_TYPE: Final = 3
NFTA_OBJ_USERDATA: Final = 8

NFT_SET_ANONYMOUS: Final = 0x1
NFT_SET_EVAL: Final = 0x20
"""`flags dynamic`: filled by rules."""

_TABLE_KEEPS: Final = frozenset({nl.NFTA_TABLE_NAME, nl.NFTA_TABLE_USERDATA})
_CHAIN_KEEPS: Final = frozenset(
    {
        nl.NFTA_CHAIN_TABLE, nl.NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY,
        NFTA_CHAIN_TYPE, NFTA_CHAIN_USERDATA,
    }
)  # fmt: skip
_SET_KEEPS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18})
"""All of enum nft_set_attributes but ID, PAD, HANDLE, and what later kernels only report."""
_OBJECT_KEEPS: Final = frozenset(
    {nl.NFTA_OBJ_TABLE, nl.NFTA_OBJ_NAME, NFTA_OBJ_TYPE, nl.NFTA_OBJ_DATA, NFTA_OBJ_USERDATA}
)
_RULE_KEEPS: Final = frozenset(
    {
        nl.NFTA_RULE_TABLE, nl.NFTA_RULE_CHAIN, nl.NFTA_RULE_EXPRESSIONS, nl.NFTA_RULE_USERDATA,
    }
)  # fmt: skip
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr

BLOCK_SETS: Final = ("block4", "block6", "block_net4", "block_net6")
"""Whose elements are not the blueprint's affair: they come and go with every block."""

Message = tuple[int, int, bytes]
"""NFT_MSG_*, flags, body: as NfnetlinkSocket.transact() takes it."""


class SetPlan(NamedTuple):
    """A set: what it is, and, unless others keep them, its elements."""

    name: str
    attributes: bytes
    anonymous: bool
    elements: tuple[bytes, ...]
    """Payloads of NFTA_SET_ELEM_LIST_ELEMENTS."""


class RulePlan(NamedTuple):
    chain: str
    expressions: bytes
    """The payload of NFTA_RULE_EXPRESSIONS, names of anonymous sets as the kernel gave them."""
    shape: bytes
    """The same without those names, which differ between two equal tables."""
    userdata: bytes


class Blueprint(NamedTuple):
    table: bytes
    chains: dict[str, bytes]
    objects: dict[str, bytes]
    sets: dict[str, SetPlan]
    """Anonymous ones too."""
    rules: tuple[RulePlan, ...]

    def lacks(self, there: "Blueprint | None") -> list[str]:
        """What of this is missing or altered in the table that is there. What is there beyond,
        an operator's own rule or element, is nobody's fault."""
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
            elif not _keys(plan.elements) <= _keys(other.elements):
                found.append(f"elements of set {name}")
        for chain in self.chains:
            if not _in_order(self._shapes(chain), there._shapes(chain)):  # noqa: SLF001
                found.append(f"rules of chain {chain}")
        return found

    def _shapes(self, chain: str) -> Iterator[bytes]:
        return (rule.shape for rule in self.rules if rule.chain == chain)

    def messages(self) -> list[Message]:
        """What makes the table again, or whole again: sets that are there keep their elements."""
        create = nl.NLM_F_CREATE
        ours = nl.text(nl.NFTA_RULE_TABLE, TABLE)
        made: list[Message] = [
            (nl.NFT_MSG_NEWTABLE, create, self.table),
            (nl.NFT_MSG_DELRULE, 0, ours),  # all of them, and with them the anonymous sets
        ]
        made += ((nl.NFT_MSG_NEWCHAIN, create, body) for body in self.chains.values())
        made += ((NFT_MSG_NEWOBJ, create, body) for body in self.objects.values())
        identities: dict[str, int] = {}
        for number, plan in enumerate(self.sets.values(), 1):
            made += _set_messages(plan, number)
            if plan.anonymous:
                identities[plan.name] = number
        for rule in self.rules:
            expressions = _with_identities(rule.expressions, identities)
            body = ours + nl.text(nl.NFTA_RULE_CHAIN, rule.chain)
            body += nl.attribute(nl.NFTA_RULE_EXPRESSIONS | nl.NLA_F_NESTED, expressions)
            made.append((nl.NFT_MSG_NEWRULE, create | nl.NLM_F_APPEND, body + rule.userdata))
        return made


def take(netlink: NfnetlinkSocket) -> Blueprint | None:
    """The table that is there; None if there is none."""
    tables = netlink.dump(nl.NFT_MSG_GETTABLE, b"", "tables")
    ours = [r.body[4:] for r in tables if _name(r.body[4:], nl.NFTA_TABLE_NAME) == TABLE]
    if not ours:
        return None
    chains = _dump(netlink, NFT_MSG_GETCHAIN, "chains")
    objects = _dump(netlink, nl.NFT_MSG_GETOBJ, "counters")
    plans = [_set_plan(netlink, b) for b in _dump(netlink, nl.NFT_MSG_GETSET, "sets")]
    anonymous = frozenset(plan.name for plan in plans if plan.anonymous)
    rules = _dump(netlink, nl.NFT_MSG_GETRULE, "rules")
    return Blueprint(
        _pick(ours[0], _TABLE_KEEPS),
        {_name(body, nl.NFTA_CHAIN_NAME): _pick(body, _CHAIN_KEEPS) for body in chains},
        {_name(body, nl.NFTA_OBJ_NAME): _pick(body, _OBJECT_KEEPS) for body in objects},
        {plan.name: plan for plan in plans},
        tuple(_rule_plan(body, anonymous) for body in rules),
    )


def element_lists(netlink: NfnetlinkSocket, name: str) -> tuple[bytes, ...]:
    """The elements of a set, as the kernel tells them and takes them."""
    replies = netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}")
    lists = (nl.attributes(r.body[4:]).get(nl.NFTA_SET_ELEM_LIST_ELEMENTS) for r in replies)
    return tuple(payload for payload in lists if payload)


def element_message(name: str, payload: bytes, number: int = 0) -> Message:
    """Elements into a set; `number` where the set has no name of its own yet."""
    body = nl.set_name(TABLE, name)
    if number:
        body += nl.u32(NFTA_SET_ELEM_LIST_SET_ID, number)
    body += nl.attribute(nl.NFTA_SET_ELEM_LIST_ELEMENTS | nl.NLA_F_NESTED, payload)
    return nl.NFT_MSG_NEWSETELEM, nl.NLM_F_CREATE, body


def _dump(netlink: NfnetlinkSocket, kind: int, what: str) -> list[bytes]:
    """The attributes of every object of our table; the first one names the table, whatever."""
    body = nl.text(nl.NFTA_RULE_TABLE, TABLE)
    replies = (reply.body[4:] for reply in netlink.dump(kind, body, what))
    return [body for body in replies if _name(body, nl.NFTA_RULE_TABLE) == TABLE]


def _set_plan(netlink: NfnetlinkSocket, body: bytes) -> SetPlan:
    fields = nl.attributes(body)
    name = nl.name_of(fields[nl.NFTA_SET_NAME])
    flags = int.from_bytes(fields.get(NFTA_SET_FLAGS, b""))
    ours = not flags & NFT_SET_EVAL and name not in BLOCK_SETS
    elements = element_lists(netlink, name) if ours else ()
    return SetPlan(name, _pick(body, _SET_KEEPS), bool(flags & NFT_SET_ANONYMOUS), elements)


def _set_messages(plan: SetPlan, number: int) -> Iterator[Message]:
    attributes = plan.attributes
    name = plan.name
    if plan.anonymous:
        name = "__set%d"  # the kernel numbers them
        attributes = _replace_name(attributes, nl.NFTA_SET_NAME, name)
    identity = nl.u32(NFTA_SET_ID, number)
    yield NFT_MSG_NEWSET, nl.NLM_F_CREATE, attributes + identity
    if plan.elements and not plan.anonymous:
        yield nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)  # all there are
    for payload in plan.elements:
        yield element_message(name, payload, number if plan.anonymous else 0)


def _rule_plan(body: bytes, anonymous: frozenset[str]) -> RulePlan:
    fields = nl.attributes(body)
    expressions = fields.get(nl.NFTA_RULE_EXPRESSIONS, b"")
    return RulePlan(
        nl.name_of(fields[nl.NFTA_RULE_CHAIN]),
        expressions,
        _with_identities(expressions, dict.fromkeys(anonymous, 0)),
        _pick(body, frozenset({nl.NFTA_RULE_USERDATA})),
    )


def _with_identities(expressions: bytes, identities: dict[str, int]) -> bytes:
    """Lookups in anonymous sets by the number that stands for them in this transaction."""
    made = []
    for _, whole, payload in _raw(expressions):
        fields = nl.attributes(payload)
        if nl.name_of(fields.get(nl.NFTA_EXPR_NAME, b"")) == "lookup":
            data = fields[nl.NFTA_EXPR_DATA]
            name = _name(data, NFTA_LOOKUP_SET)
            if name in identities:
                data = _replace_name(data, NFTA_LOOKUP_SET, "__set%d")
                data += nl.u32(NFTA_LOOKUP_SET_ID, identities[name])
                expression = nl.text(nl.NFTA_EXPR_NAME, "lookup")
                expression += nl.attribute(nl.NFTA_EXPR_DATA | nl.NLA_F_NESTED, data)
                made.append(nl.nested(nl.NFTA_LIST_ELEM, expression))
                continue
        made.append(whole)
    return b"".join(made)


def _replace_name(body: bytes, kind: int, name: str) -> bytes:
    return b"".join(nl.text(kind, name) if k == kind else whole for k, whole, _ in _raw(body))


def _pick(body: bytes, kinds: frozenset[int]) -> bytes:
    return b"".join(whole for kind, whole, _ in _raw(body) if kind in kinds)


def _name(body: bytes, kind: int) -> str:
    return nl.name_of(nl.attributes(body).get(kind, b""))


def _raw(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(type, the attribute as it stands, padded, its payload)."""
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > len(data):
            raise nl.MalformedMessage(f"attribute of {size} bytes, {len(data) - offset} are there")
        end = offset + size + (-size & 3)
        yield (
            kind & nl.NLA_TYPE_MASK,
            data[offset:end].ljust(end - offset, b"\0"),
            data[offset + 4 : offset + size],
        )
        offset = end


def _keys(elements: Iterable[bytes]) -> set[bytes]:
    """What tells one element from another: its key and flags."""
    wanted = frozenset({nl.NFTA_SET_ELEM_KEY, 3, 10})  # NFTA_SET_ELEM_FLAGS, _KEY_END
    return {_pick(item, wanted) for payload in elements for _, _, item in _raw(payload)}


def _in_order(wanted: Iterator[bytes], there: Iterator[bytes]) -> bool:
    """Whether all of `wanted` stand in `there`, in their order."""
    return all(any(shape == other for other in there) for shape in wanted)
