"""Entries: the statements that the members of a fleet exchange, and their canonical bytes.

An entry is a JSON object in one form alone, so that its signature covers every byte: sorted keys,
no spaces, ASCII. parse() takes hostile bytes. Version 2 has what only a member with full trust may
say: "unblock", and elements of learnt sets. A member that knows version 1 alone refuses those as
unknown-version, and takes the others. A duration is the truth about how long a block
lasts; the time at which it was made can only shorten it: a wrong clock does not prolong it.

See docs/decisions.md: fleet-entry.
"""

import json
import re
from ipaddress import IPv4Network, IPv6Network
from json.encoder import encode_basestring_ascii as quoted
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from sentryfw.engine.model import Source, source_of_key

SCHEMA: Final = 1
PAIR_SCHEMA: Final = 2
"""Version of the operations between members with full trust."""
MAX_ENTRY_BYTES: Final = 1024
MAX_SEQUENCE: Final = (1 << 53) - 1
"""The largest number that every reader of JSON keeps exactly."""
MAX_DURATION_S: Final = 10 * 365 * 86400
MAX_TIME_S: Final = 1 << 40
MAX_REASON: Final = 200

Operation = Literal["block", "withdraw", "unblock"]
"""unblock: an operator ended what this member did not block itself."""
Proof = Literal["forgeable", "proven", "hand"]
"""Evidence of a block: packets of any sender, a decoy's finished handshake, an operator."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"([0-9a-f.:]{2,45})(?:/([0-9]{1,3}))?")
_SCAN: Final = re.compile(r"[a-z0-9-]{0,32}")
_REASON: Final = re.compile(rf"[\x20-\x7e]{{0,{MAX_REASON}}}")
_FIELDS: Final = frozenset((
    "v", "op", "member", "seq", "address", "duration_s", "evidence", "scan", "reason", "at",
))  # fmt: skip
_ELEMENTS: Final = "elements"
_ELEMENTS_FIELDS: Final = frozenset(("v", "op", "member", "seq", "set", "elements", "at"))
_NUMBER: Final = "(0|[1-9][0-9]{0,15})"
_USUAL: Final = re.compile(
    rf'{{"address":"([0-9a-f.:/]+)","at":{_NUMBER},"duration_s":{_NUMBER}'
    r',"evidence":"(forgeable|proven|hand)","member":"([a-z0-9-]+)","op":"(block|withdraw)"'
    rf',"reason":"([ !#-\[\]-~]{{0,{MAX_REASON}}})","scan":"([a-z0-9-]{{0,32}})","seq":{_NUMBER}'
    r',"v":1}'
)
"""An entry of version 1 in its one form, whose reason needs no escape: nearly all of them."""
_SET: Final = re.compile(r"[a-z0-9_]{1,32}")
_KEY: Final = re.compile(r"(?:[0-9a-f]{2}){4,40}")
_VERSIONS: Final = {"block": SCHEMA, "withdraw": SCHEMA, "unblock": PAIR_SCHEMA}


class UnreadableEntry(ValueError):
    """A refusal of bytes; its text is one of few words, the label of a counter."""


class Entry(NamedTuple):
    """A statement of one member about one source."""

    op: Operation
    member: str
    seq: int
    """Number of the entry among those of its member, increasing."""
    network: IPv4Network | IPv6Network
    """The source: a host, an IPv6 /64, or a network blocked by hand."""
    duration_s: int
    """Seconds from `at` on; 0: without end."""
    evidence: Proof
    scan: str
    reason: str
    at: int
    """Seconds since the epoch, by the member's clock."""

    @property
    def address(self) -> str:
        """The source as text: a host without its prefix length."""
        return network_text(self.network)

    @property
    def source(self) -> Source:
        """The source as the packet path knows it; of a host alone."""
        packed = self.network.network_address.packed
        return Source(packed[:8]) if self.network.prefixlen == 64 else source_of_key(packed)

    @property
    def is_host(self) -> bool:
        """Whether this is one source: an address, or an IPv6 /64."""
        return self.network.prefixlen in ((32,) if self.network.version == 4 else (64, 128))

    def encode(self) -> bytes:
        """Return the canonical bytes, which are signed."""
        # By hand: of 100,000 entries json.dumps() with sorted keys takes half a second more.
        return (
            f'{{"address":"{self.address}","at":{self.at},"duration_s":{self.duration_s}'
            f',"evidence":"{self.evidence}","member":"{self.member}","op":"{self.op}"'
            f',"reason":{quoted(self.reason)},"scan":"{self.scan}","seq":{self.seq}'
            f',"v":{_VERSIONS[self.op]}}}'
        ).encode()


class Elements(NamedTuple):
    """Elements of a set that one member's rules have learnt: partners, served services, peers."""

    member: str
    seq: int
    name: str
    """Name of the set."""
    elements: tuple[tuple[bytes, int], ...]
    """Keys, as the kernel has them, in order, and the seconds left of each from `at` on."""
    at: int

    def encode(self) -> bytes:
        """Return the canonical bytes, which are signed."""
        return canonical({
            "v": PAIR_SCHEMA, "op": _ELEMENTS, "member": self.member, "seq": self.seq,
            "set": self.name, "at": self.at,
            "elements": {key.hex(): seconds for key, seconds in self.elements},
        })  # fmt: skip


Statement = Entry | Elements


def canonical(fields: dict[str, Any]) -> bytes:
    """Return the one form of a JSON object: sorted keys, no spaces, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def network_text(network: IPv4Network | IPv6Network) -> str:
    """Return a network as text, a single address without its prefix length."""
    packed = network.network_address.packed
    if len(packed) == 4:
        address = inet_ntop(AF_INET, packed)
    elif any(packed[:10]):
        address = inet_ntop(AF_INET6, packed)
    else:  # libc writes the end of some of these as an IPv4 address
        address = str(network.network_address)
    is_single = network.prefixlen == network.max_prefixlen
    return address if is_single else f"{address}/{network.prefixlen}"


def is_name(text: str) -> bool:
    """Return whether a text can be a member's name: 32 letters, digits and hyphens at most."""
    return _NAME.fullmatch(text) is not None


def parse(raw: bytes) -> Statement:
    """Return the statement in hostile bytes. Raise UnreadableEntry for any but the one form."""
    if len(raw) > MAX_ENTRY_BYTES:
        raise UnreadableEntry("too-long")
    if (usual := _usual(raw)) is not None:
        return usual
    try:
        fields = json.loads(raw.decode("ascii"))
    except (ValueError, RecursionError):
        raise UnreadableEntry("not-json") from None
    if not isinstance(fields, dict):
        raise UnreadableEntry("not-an-object")
    version = _number(fields, "v", MAX_SEQUENCE)
    if version not in (SCHEMA, PAIR_SCHEMA):
        raise UnreadableEntry("unknown-version")
    statement = _elements(fields) if fields.get("op") == _ELEMENTS else _entry(fields)
    if statement.encode() != raw:  # spaces, other orders, a key twice: the signature is of one form
        raise UnreadableEntry("not-canonical")
    return statement


def _usual(raw: bytes) -> Entry | None:
    """Return the entry in bytes of the usual form; None for others, which are read field by field:
    that takes twice as long."""
    match = _USUAL.fullmatch(raw.decode("latin-1"))
    if match is None:
        return None
    address, at, duration, evidence, member, op, reason, scan, seq = match.groups()
    network = _network(address)
    found = Entry(
        op=cast(Operation, op), member=member, seq=int(seq), network=network,
        duration_s=int(duration), evidence=cast(Proof, evidence), scan=scan, reason=reason,
        at=int(at),
    )  # fmt: skip
    is_fit = found.seq <= MAX_SEQUENCE and found.duration_s <= MAX_DURATION_S
    is_fit = is_fit and found.at <= MAX_TIME_S and _NAME.fullmatch(member) is not None
    return found if is_fit and network_text(network) == address else None


def _entry(fields: dict[str, Any]) -> Entry:
    if fields.keys() != _FIELDS:
        raise UnreadableEntry("unknown-fields")
    return Entry(
        op=_word(fields, "op", Operation),
        member=_text(fields, "member", _NAME),
        seq=_number(fields, "seq", MAX_SEQUENCE),
        network=_network(fields["address"]),
        duration_s=_number(fields, "duration_s", MAX_DURATION_S),
        evidence=_word(fields, "evidence", Proof),
        scan=_text(fields, "scan", _SCAN),
        reason=_text(fields, "reason", _REASON),
        at=_number(fields, "at", MAX_TIME_S),
    )


def _elements(fields: dict[str, Any]) -> Elements:
    if fields.keys() != _ELEMENTS_FIELDS:
        raise UnreadableEntry("unknown-fields")
    given = fields["elements"]
    if not isinstance(given, dict) or not given or not all(map(_KEY.fullmatch, given)):
        raise UnreadableEntry("bad-elements")
    return Elements(
        member=_text(fields, "member", _NAME),
        seq=_number(fields, "seq", MAX_SEQUENCE),
        name=_text(fields, "set", _SET),
        elements=tuple((bytes.fromhex(key), _seconds(given[key])) for key in given),
        at=_number(fields, "at", MAX_TIME_S),
    )


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_DURATION_S:
        raise UnreadableEntry("bad-elements")
    return value


def _number(fields: dict[str, Any], name: str, highest: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise UnreadableEntry(f"bad-{name}")
    return value


def _text(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = fields[name]
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise UnreadableEntry(f"bad-{name}")
    return value


def _word(fields: dict[str, Any], name: str, words: Any) -> Any:  # noqa: ANN401 - a Literal
    value = fields[name]
    if not isinstance(value, str) or value not in get_args(words):
        raise UnreadableEntry(f"bad-{name}")
    return value


def _network(value: object) -> IPv4Network | IPv6Network:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None:  # an interface (%) here means nothing there
        raise UnreadableEntry("bad-address")
    text, length = match.groups()
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
        kind = IPv4Network if len(packed) == 4 else IPv6Network
        network = kind((packed, int(length or 8 * len(packed))))
    except (OSError, ValueError):
        raise UnreadableEntry("bad-address") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise UnreadableEntry("bad-address")  # no packet carries it
    return network
