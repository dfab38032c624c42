"""Check what a hub sent: (hostile values) -> items of known members in order, or a fault.

The id of an item at the hub is the number of its entry, SEQ-0: an entry that is added twice has
the same id, which the hub refuses. Nothing here is trusted, and nothing needs to be: the daemon
checks signatures and numbers. What is dropped here saves it the work, and is counted.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sentryfw.fleet.entry import MAX_ENTRY_BYTES, UnreadableEntry, parse
from sentryfw.fleet.seal import parse_seal
from sentryfw.fleet.signature import SIGNATURE_BYTES

MAX_ID: Final = (1 << 64) - 1
_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})")


class HubFault(Exception):
    """A hub that cannot be used now; the text is one sentence for the operator."""


class SignedSeal(NamedTuple):
    """The seal of a part as it is carried (seal.py); at the hub its id is SEQ-1, behind the last
    entry of the part."""

    text: str
    signature: str


class Signed(NamedTuple):
    """An entry as it is carried."""

    seq: int
    entry: str
    signature: str
    seal: SignedSeal | None = None
    """The seal of the part that ends with this entry."""

    @property
    def size(self) -> int:
        """Characters that it takes in a line of JSON, about."""
        escaped = self.entry.count('"') + self.entry.count("\\")
        return len(self.entry) + escaped + len(self.signature) + 40


class MemberStream(NamedTuple):
    """The new items of one member's stream."""

    member: str
    items: list[Signed]
    cursor: int
    """The last id, from which reading goes on."""
    refused: Counter[str]
    """Items that cannot be entries of this member, by the reason."""


def streams(
    answer: object, names: Mapping[bytes, str], after: Mapping[str, int], count: int = 0
) -> list[MemberStream]:
    """Return the streams in an answer to XREAD. `names`: members by their keys; `after`: the
    numbers that were asked for; `count`: the items of each, 0 without a limit: a stream with so
    many ends with its last seal. Raise HubFault for what cannot be an answer to that."""
    if answer is None:
        return []
    pairs = answer.items() if isinstance(answer, dict) else _pairs(answer)
    found = {}
    for key, items in pairs:
        member = names.get(key) if isinstance(key, bytes) else None
        if member is None or member in found or not isinstance(items, list):
            raise HubFault("the hub sent a stream that was not asked for")
        is_cut = 0 < count <= len(items)
        found[member] = _stream(member, _whole(items) if is_cut else items, after[member])
    return list(found.values())


def _pairs(answer: object) -> Iterator[tuple[Any, Any]]:
    if not isinstance(answer, list):
        raise HubFault("the hub's answer is not a list of streams")
    for pair in answer:
        if not isinstance(pair, list) or len(pair) != 2:
            raise HubFault("the hub's answer is not a list of streams")
        yield pair[0], pair[1]


def _whole(items: list[Any]) -> list[Any]:
    """Return the items up to the last seal; all without one. The rest is read once more: without
    its seal each entry of it would be checked on its own."""
    for end in range(len(items), 0, -1):
        item = items[end - 1]
        if isinstance(item, list) and len(item) == 2 and _is_seal(item[1]):
            return items[:end]
    return items


def _stream(member: str, items: list[Any], after: int) -> MemberStream:
    found: list[Signed] = []
    refused: Counter[str] = Counter()
    cursor = after
    for item in items:
        if not isinstance(item, list) or len(item) != 2:
            raise HubFault("the hub sent an item that is none")
        number, part = id_of(item[0])
        if number < cursor or number == after:
            raise HubFault(f"the hub sent the numbers of {member} out of order")
        if part == 1 and _is_seal(item[1]):
            sealed = found and found[-1].seq == number and _sealed(found[-1], item[1])
            if sealed:
                found[-1] = sealed
            else:
                refused["bad-seal"] += 1
            continue
        is_odd = part != 0 or number == cursor  # a member that gives such ids harms its own stream
        cursor = number
        signed = "wrong-id" if is_odd else _signed(member, number, item[1])
        if isinstance(signed, str):
            refused[signed] += 1
        else:
            found.append(signed)
    return MemberStream(member, found, cursor, refused)


def id_of(value: object) -> tuple[int, int]:
    """Return the two numbers of an id. Raise HubFault for other values."""
    match = _ID.fullmatch(value) if isinstance(value, bytes) else None
    found = (0, 0) if match is None else (int(match[1]), int(match[2]))
    if match is None or max(found) > MAX_ID:
        raise HubFault("the hub sent an id that is none")
    return found


def _is_seal(fields: object) -> bool:
    return isinstance(fields, list) and len(fields) == 4 and fields[0::2] == [b"seal", b"signature"]


def _sealed(last: Signed, fields: list[Any]) -> Signed | None:
    """Return the last entry of a part with the seal of that part; None if this is none."""
    text, signature = fields[1], fields[3]
    if not isinstance(text, bytes) or not isinstance(signature, bytes):
        return None
    try:
        is_fit = parse_seal(text).last == last.seq and len(signature) == 2 * SIGNATURE_BYTES
        seal = SignedSeal(text.decode("ascii"), signature.decode("ascii"))
    except (UnreadableEntry, UnicodeDecodeError):
        return None
    return last._replace(seal=seal) if is_fit else None


def _named(member: str) -> bytes:
    return b'"member":"%b"' % member.encode()


def _signed(member: str, number: int, fields: object) -> Signed | str:
    """Return the entry, or why this is none."""
    if not isinstance(fields, list) or len(fields) != 4 or fields[0::2] != [b"entry", b"signature"]:
        return "not-an-entry"
    entry, signature = fields[1], fields[3]
    if not isinstance(entry, bytes) or not isinstance(signature, bytes):
        return "not-an-entry"
    if len(entry) > MAX_ENTRY_BYTES or len(signature) != 2 * SIGNATURE_BYTES:
        return "too-long"
    if not (entry.isascii() and signature.isascii()):
        return "bad-signature"
    # What looks like a block of this member is left to the daemon: to read it twice costs as much
    # as all the rest here.
    if not (entry.endswith(b'"seq":%d,"v":1}' % number) and _named(member) in entry):
        try:
            parsed = parse(entry)
        except UnreadableEntry as error:
            return str(error)
        if (parsed.member, parsed.seq) != (member, number):
            return "wrong-id"
    return Signed(number, entry.decode("ascii"), signature.decode("ascii"))
