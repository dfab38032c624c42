"""Our own blocks and their ends as signed entries, from the ledger's outbox."""

import json
import math
import time
from collections.abc import Generator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.fleet.entry import (
    MAX_DURATION_S,
    MAX_REASON,
    MAX_SEQUENCE,
    Elements,
    Entry,
    Proof,
    Statement,
)
from sentryfw.fleet.seal import SEAL_COUNT, Seal, seal
from sentryfw.fleet.signature import Signer
from sentryfw.host.private_files import read_as_owner
from sentryfw.netfilter.sets.mirror import KEY_BYTES
from sentryfw.record.fleet import mirror, outbox
from sentryfw.record.ledger import Ledger
from sentryfw.text import plain

MAX_ENTRIES: Final = 100
"""Entries in one request or answer: a line of the control socket has 64 KiB."""
MAX_KEY_FILE_BYTES: Final = 128
SWEEP_INTERVAL_S: Final = 20.0
"""Seconds between two sweeps; the guard writes what the rules have learnt once a minute."""


class Sender:
    """Signs entries. The same number gives the same bytes, however often it is asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._signer: Signer | None = None
        self._swept_at = -math.inf

    def outgoing(self, request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield our entries behind the number `after`, MAX_ENTRIES at most."""
        with Ledger(self._config.paths.ledger) as ledger:
            found = self.signed(ledger, after_in(request), MAX_ENTRIES)
        yield from found

    def signed(self, ledger: Ledger, after: int, limit: int) -> list[dict[str, Any]]:
        """Return our entries behind a number, `limit` at most."""
        if self._signer is None:
            self._signer = read_signer(self._config)
        self._sweep(ledger)
        items = []
        for row in outbox.outgoing(ledger, after, limit):
            raw = entry_of(self._config.fleet.name, row).encode()
            item = {"seq": row.seq, **self._signed(raw)}
            if row.seq % SEAL_COUNT == 0 and (sealed := self._seal(ledger, row.seq)) is not None:
                item["seal"] = self._signed(sealed.encode())
            items.append(item)
        return items

    def _signed(self, raw: bytes) -> dict[str, Any]:
        assert self._signer is not None  # noqa: S101 - signed() has read it
        return {"entry": raw.decode(), "signature": self._signer.sign(raw).hex()}

    def _seal(self, ledger: Ledger, last: int) -> Seal | None:
        """Return the seal of the part that ends with a number: the same one however often, while
        the part is kept as a whole; None for a part of one entry."""
        rows = outbox.outgoing(ledger, last - SEAL_COUNT, SEAL_COUNT)
        name = self._config.fleet.name
        texts = {row.seq: entry_of(name, row).encode().decode() for row in rows if row.seq <= last}
        return seal(name, list(texts), list(texts.values())) if len(texts) > 1 else None

    def _sweep(self, ledger: Ledger) -> None:
        """Give a member with full trust what the rules have learnt since the last time."""
        now = time.monotonic()
        if self._config.fleet.mirrors and now - self._swept_at >= SWEEP_INTERVAL_S:
            self._swept_at = now
            mirror.sweep(ledger, KEY_BYTES, time.time())


def after_in(request: Mapping[str, Any]) -> int:
    """Return the number `after` of a request. Raise SentryError if it has none."""
    after = request.get("after")
    if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after <= MAX_SEQUENCE:
        raise SentryError("after is the number of an entry")
    return after


def read_signer(config: Config) -> Signer:
    """Return the signer of this firewall's key. Raise SentryError without a key."""
    path = config.paths.fleet_key
    try:
        text = read_as_owner(path, MAX_KEY_FILE_BYTES).decode()
        return Signer(bytes.fromhex(text))
    except FileNotFoundError:
        raise SentryError(f"{path} is missing: `sentryfw fleet key` makes it") from None
    except (OSError, ValueError) as error:
        raise SentryError(f"{path}: {error}") from error


def entry_of(member: str, row: outbox.Outgoing) -> Statement:
    """Return the statement of a row."""
    if row.op == "elements":
        elements = json.loads(row.elements)
        return Elements(
            member=member, seq=row.seq, name=row.address, at=max(0, int(row.at)),
            elements=tuple((bytes.fromhex(key), seconds) for key, seconds in elements.items()),
        )  # fmt: skip
    proof: Proof = "forgeable" if row.forgeable else "proven"
    reason = plain(row.reason).encode("ascii", "replace").decode()[:MAX_REASON]
    return Entry(
        op=row.op, member=member, seq=row.seq, network=ip_network(row.address),
        duration_s=min(round(row.duration_s), MAX_DURATION_S),
        evidence=proof if row.scan else "hand", scan=row.scan, reason=reason,
        at=max(0, int(row.at)),
    )  # fmt: skip
