"""Signed entries of a member, for the tests of a fleet."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, Final

from sentryfw.fleet.entry import Entry
from sentryfw.fleet.link.stream_items import Signed, SignedSeal
from sentryfw.fleet.seal import seal
from sentryfw.fleet.signature import Signer

SIGNER: Final = Signer(b"1" * 32)
AT: Final = 1_800_000_000


def made(seq: int, member: str = "fw2", **changes: Any) -> Signed:
    """Return a signed entry; `changes`: fields of it that differ."""
    fields: dict[str, Any] = {
        "op": "block", "network": ip_network("192.0.2.7"), "duration_s": 600, "evidence": "proven",
        "scan": "portscan", "reason": "why", "at": AT, **changes,
    }  # fmt: skip
    raw = Entry(member=member, seq=seq, **fields).encode()
    return Signed(seq, raw.decode(), SIGNER.sign(raw).hex())


def as_item(signed: Signed, number: int | None = None, part: int = 0) -> list[Any]:
    """Return an entry as a hub sends it."""
    name = f"{signed.seq if number is None else number}-{part}".encode()
    return [name, [b"entry", signed.entry.encode(), b"signature", signed.signature.encode()]]


def sealed(entries: Sequence[Signed], member: str = "fw2") -> list[Signed]:
    """Return these entries, the last one with their seal."""
    text = seal(member, [one.seq for one in entries], [one.entry for one in entries]).encode()
    signed_seal = SignedSeal(text.decode(), SIGNER.sign(text).hex())
    return [*entries[:-1], entries[-1]._replace(seal=signed_seal)]
