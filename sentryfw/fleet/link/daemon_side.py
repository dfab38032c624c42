"""The daemon, as the link sees it: requests at the control socket."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.control.client import ask, ask_stream
from sentryfw.errors import SentryError
from sentryfw.fleet.link.stream_items import Signed, SignedSeal
from sentryfw.fleet.seal import parse_seal

WAIT_S: Final = 5.0
SPARE_S: Final = 10.0
"""Seconds more than the daemon is asked to wait: it may be busy."""
MAX_BATCH_ENTRIES: Final = 100
MAX_BATCH_CHARACTERS: Final = 60_000
"""Entries in one request, which is a line of 64 KiB at most."""


class OwnEntries(NamedTuple):
    """Our entries behind a number."""

    entries: list[Signed]
    last: int
    """The last number that the daemon gave to an entry."""


class DaemonSide:
    """Asks the daemon. The methods raise SentryError."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def outgoing(self, after: int) -> OwnEntries:
        """Return our entries behind a number; wait for one for WAIT_S."""
        request = {"do": "fleet-wait", "after": after, "seconds": WAIT_S}
        answer = ask(self._control, request, WAIT_S + SPARE_S)
        entries = [
            Signed(int(item["seq"]), str(item["entry"]), str(item["signature"]), _seal_in(item))
            for item in answer["entries"]
        ]
        return OwnEntries(entries, int(answer["last"]))

    def positions(self) -> dict[str, int]:
        """Return the last number of each member."""
        for answer in ask_stream(self._control, {"do": "fleet-positions"}):
            return {str(name): int(last) for name, last in answer.items()}
        raise SentryError("the daemon has no answer about the members")

    def incoming(self, entries: Sequence[Signed]) -> Iterator[Mapping[str, Any]]:
        """Hand entries over, in order; yield the daemon's answers: to each of them, or `effects`,
        the numbers of a whole part by its seal."""
        for part in parts(entries):
            if (seal := part[-1].seal) is not None:
                sealed = {"entry": seal.text, "signature": seal.signature}
                texts = [item.entry for item in part]
                request = {"do": "fleet-part", "seal": sealed, "entries": texts}
                answers = list(ask_stream(self._control, request))
                if not any("unsealed" in answer for answer in answers):
                    yield from answers
                    continue
            for some in batches(part):
                items = [{"entry": item.entry, "signature": item.signature} for item in some]
                yield from ask_stream(self._control, {"do": "fleet-incoming", "entries": items})


def _seal_in(item: Mapping[str, Any]) -> SignedSeal | None:
    seal = item.get("seal")
    return None if seal is None else SignedSeal(str(seal["entry"]), str(seal["signature"]))


def parts(entries: Sequence[Signed]) -> Iterator[list[Signed]]:
    """Yield entries in parts: those of a seal, with it at their end, and what lies between them.

    A part that does not fit one request, or is not here as a whole, has lost its seal.
    """
    waiting: list[Signed] = []
    for item in entries:
        waiting.append(item)
        if item.seal is None:
            continue
        seal = parse_seal(item.seal.text.encode())
        sealed = [one for one in waiting if one.seq >= seal.first]
        before = waiting[: len(waiting) - len(sealed)]
        if before:
            yield before
        is_fit = sum(one.size for one in sealed) <= MAX_BATCH_CHARACTERS
        is_whole = len(sealed) == seal.size
        yield sealed if is_fit and is_whole else [*sealed[:-1], item._replace(seal=None)]
        waiting = []
    if waiting:
        yield waiting


def batches(entries: Sequence[Signed]) -> Iterator[list[Signed]]:
    """Yield entries in parts that fit one request."""
    part: list[Signed] = []
    size = 0
    for item in entries:
        if part and (len(part) == MAX_BATCH_ENTRIES or size + item.size > MAX_BATCH_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(item)
        size += item.size
    if part:
        yield part
