"""Our own blocks and their ends as signed entries, from the ledger's outbox."""

from collections.abc import Generator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.fleet.entry import MAX_DURATION_S, MAX_REASON, Entry, Proof
from sentryfw.fleet.signature import Signer
from sentryfw.host.private_files import read_as_owner
from sentryfw.record.fleet import outbox
from sentryfw.record.ledger import Ledger
from sentryfw.text import plain

MAX_ENTRIES: Final = 100
"""Entries in one request or answer: a line of the control socket has 64 KiB."""
MAX_KEY_FILE_BYTES: Final = 128


class Sender:
    """Signs entries. The same number gives the same bytes, however often it is asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._signer: Signer | None = None

    def outgoing(self, request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield our entries behind the number `after`, MAX_ENTRIES at most."""
        after = request.get("after")
        if isinstance(after, bool) or not isinstance(after, int) or after < 0:
            raise SentryError("after is the number of an entry")
        if self._signer is None:
            self._signer = read_signer(self._config)
        with Ledger(self._config.paths.ledger) as ledger:
            rows = outbox.outgoing(ledger, after, MAX_ENTRIES)
        for row in rows:
            raw = entry_of(self._config.fleet.name, row).encode()
            signature = self._signer.sign(raw).hex()
            yield {"seq": row.seq, "entry": raw.decode(), "signature": signature}


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


def entry_of(member: str, row: outbox.Outgoing) -> Entry:
    """Return the entry of a row."""
    proof: Proof = "forgeable" if row.forgeable else "proven"
    reason = plain(row.reason).encode("ascii", "replace").decode()[:MAX_REASON]
    return Entry(
        op=row.op, member=member, seq=row.seq, network=ip_network(row.address),
        duration_s=min(round(row.duration_s), MAX_DURATION_S),
        evidence=proof if row.scan else "hand", scan=row.scan, reason=reason,
        at=max(0, int(row.at)),
    )  # fmt: skip
