"""Seals: one signature over a part of a member's entries; a newcomer checks a hundred at once.

Each entry has its own signature, too, and goes out as soon as it is made. Behind every SEAL_COUNT
numbers follows the seal of the part that ends there: a statement of version 3 with the digest of
the entries' texts, in order. Where one text differs, is left out or is one too many, the seal is of
no use, and each entry needs its own signature. A member that does not know seals passes them over.

See docs/decisions.md: fleet-seal.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sentryfw.fleet.entry import (
    MAX_ENTRY_BYTES,
    MAX_SEQUENCE,
    UnreadableEntry,
    canonical,
    is_name,
)

SEAL_SCHEMA: Final = 3
SEAL_COUNT: Final = 128
"""Numbers between two seals: a part ends with a number that this divides. A request with a part of
usual entries fits a line of the control socket."""
_FIELDS: Final = frozenset(("v", "op", "member", "first", "last", "count", "digest"))


class Seal(NamedTuple):
    """A member's statement about the entries of a part."""

    member: str
    first: int
    """Number of the first entry."""
    last: int
    size: int
    """Entries: numbers may be left out."""
    digest: str
    """SHA-256 of their texts, in order, with a line feed behind each, as hexadecimal text."""

    def encode(self) -> bytes:
        """Return the canonical bytes, which are signed."""
        return canonical({
            "v": SEAL_SCHEMA, "op": "seal", "member": self.member, "first": self.first,
            "last": self.last, "count": self.size, "digest": self.digest,
        })  # fmt: skip

    def covers(self, texts: Sequence[str]) -> bool:
        """Return whether these are the texts of the part, all of them, in order."""
        return len(texts) == self.size and digest_of(texts) == self.digest


def digest_of(texts: Sequence[str]) -> str:
    """Return the digest of texts, as a seal has it."""
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()


def seal(member: str, numbers: Sequence[int], texts: Sequence[str]) -> Seal:
    """Return the seal of a part. `numbers`: those of the entries with these texts."""
    return Seal(member, numbers[0], numbers[-1], len(texts), digest_of(texts))


def parse_seal(raw: bytes) -> Seal:
    """Return the seal in hostile bytes. Raise UnreadableEntry for any but the one form."""
    try:
        fields = json.loads(raw.decode("ascii")) if len(raw) <= MAX_ENTRY_BYTES else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS or not _is_typed(fields):
        raise UnreadableEntry("bad-seal")
    found = Seal(*(fields[name] for name in ("member", "first", "last", "count", "digest")))
    is_ordered = 0 < found.size <= SEAL_COUNT and 0 <= found.first <= found.last <= MAX_SEQUENCE
    if not is_ordered or not is_name(found.member) or found.encode() != raw:
        raise UnreadableEntry("bad-seal")
    return found


def _is_typed(fields: dict[str, Any]) -> bool:
    numbers = all(type(fields[name]) is int for name in ("first", "last", "count"))
    return numbers and all(isinstance(fields[name], str) for name in ("member", "digest"))
