"""The addresses of the allowlist's names: asked of the resolvers, and kept in a file.

The file beside the allowlist has the last good answer of each name and family. The never-block
sources are made of that file alone, so neither the daemon's start nor a packet waits for DNS. An
answer is asked for again after its TTL; without a new one the last good one stays.

See docs/decisions.md: names-in-a-file.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.config.types import IPNetwork
from sentryfw.host.allow_file import replace
from sentryfw.host.dns_message import (
    BadAnswer,
    exchange,
    parse_answer,
    question,
    read_name,
    resolvers,
)
from sentryfw.host.private_files import read_as_owner
from sentryfw.text import dumps

MAX_NAMES: Final = 64
"""Names of an allowlist that are asked for."""
MAX_ADDRESSES: Final = 16
"""Addresses of a name and family that are allowed."""
MIN_TTL_S: Final = 60.0
MAX_TTL_S: Final = 3600.0
RETRY_S: Final = 60.0
"""Seconds until a name is asked for again that had no answer."""
KEEP_S: Final = 86400.0
"""Seconds that an address stays allowed after the resolvers have denied that there is one."""
TIMEOUT_S: Final = 2.0
"""Seconds that all resolvers together have for one answer."""
MAX_FILE_BYTES: Final = 1 << 18
KINDS: Final = {"4": 1, "6": 28}
"""The kind of record of each family: A and AAAA (RFC 3596)."""
CNAME_KIND: Final = 0x5
NO_ANSWER: Final = "no resolver answers"
DENIED: Final = "the name has no such address"


class NameAnswer(NamedTuple):
    """The addresses of a name in one family. Times are seconds since the epoch."""

    addresses: tuple[str, ...] = ()
    good: float = 0.0
    """Time of the last answer with addresses."""
    due: float = 0.0
    """Time to ask again."""
    fault: str = ""
    """The reason why there is no new answer."""


class Lookup(NamedTuple):
    """An answer of the resolvers."""

    addresses: tuple[str, ...]
    ttl: float


Names = dict[str, dict[str, NameAnswer]]
"""Answers by name and family ("4", "6")."""
Ask = Callable[[str, str], Lookup]
"""Asks for a name and family. Raises OSError or BadAnswer if no resolver answers."""


def read(path: Path) -> Names:
    """Return the answers in the file; what is malformed in it counts as not asked yet."""
    try:
        data = read_as_owner(path, MAX_FILE_BYTES)
        table = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(table, dict):
        return {}
    found: Names = {}
    for name, families in list(table.items())[:MAX_NAMES]:
        if isinstance(families, dict):
            found[name] = {f: _checked(f, families[f]) for f in KINDS if f in families}
    return found


def networks(found: Names, names: Iterable[str]) -> Iterator[tuple[str, IPNetwork]]:
    """Yield each of the names with the networks of its addresses."""
    for name in names:
        for answer in found.get(name, {}).values():
            yield from ((name, ip_network(address)) for address in answer.addresses)


def refresh(path: Path, names: Iterable[str], now: float, ask: Ask | None = None) -> Names:
    """Ask for the names whose answers are due, write the file if it differs, and return all."""
    ask = ask or look_up
    known = read(path)
    found: Names = {}
    is_silent = False
    for name in list(dict.fromkeys(names))[:MAX_NAMES]:
        answers = dict(known.get(name, {}))
        for family in KINDS:
            old = answers.get(family, NameAnswer())
            if not _is_due(old, now):
                continue
            try:
                if is_silent:
                    raise TimeoutError  # the next name would cost its timeout, too
                answers[family] = _follow(old, ask(name, family), now)
            except (OSError, BadAnswer) as error:
                is_silent = is_silent or isinstance(error, TimeoutError)
                fault = str(error) or NO_ANSWER
                answers[family] = old._replace(due=now + RETRY_S, fault=fault)
        found[name] = answers
    if found != known:
        table = {n: {f: a._asdict() for f, a in by.items()} for n, by in found.items()}
        replace(path, dumps(table).encode())
    return found


def due_at(found: Names) -> float:
    """Return the time when the first answer has to be asked for again."""
    return min((a.due for families in found.values() for a in families.values()), default=0.0)


def faults(found: Names) -> dict[str, str]:
    """Return the names without any address, or without a new answer, with the reason."""
    result = {}
    for name, families in found.items():
        every = "; ".join(dict.fromkeys(a.fault for a in families.values() if a.fault))
        has_any = any(a.addresses for a in families.values())
        if every and (not has_any or all(a.fault for a in families.values())):
            result[name] = every + ("" if has_any else "; it has no address")
    return result


def look_up(name: str, family: str) -> Lookup:
    """Ask the resolvers in their order. Raise OSError or BadAnswer if none answers."""
    servers = resolvers()
    problem: OSError | BadAnswer = TimeoutError()
    for server in servers:
        number = int.from_bytes(os.urandom(2))
        query = question(number, name, KINDS[family])
        try:
            data = exchange(server, 53, query, TIMEOUT_S / len(servers))
            return addresses_in(data, number, name, family)
        except (OSError, BadAnswer) as error:
            problem = error
    raise problem


def addresses_in(data: bytes, number: int, name: str, family: str) -> Lookup:
    """Return the addresses of a name in an answer, by its aliases, and the shortest TTL.

    Raise BadAnswer if the message answers another question.
    """
    answer = parse_answer(data, number)
    if (answer.name.lower(), answer.kind) != (name, KINDS[family]):
        raise BadAnswer("the message answers another question")
    wanted, ttls, found = name, [MAX_TTL_S], []
    for record in answer.records:  # an alias comes before its target (RFC 1034, section 4.3.2)
        if record.owner.lower() != wanted:
            continue
        body = data[record.start : record.start + record.size]
        if record.kind == CNAME_KIND:
            try:
                wanted = read_name(data, record.start)[0].lower()
            except IndexError:
                raise BadAnswer("the message is cut short") from None
        elif record.kind == KINDS[family] and len(body) == (4 if family == "4" else 16):
            found.append(str(ip_address(body)))
        else:
            continue
        ttls.append(float(record.ttl))
    usable = tuple(text for text in dict.fromkeys(found) if _is_usable(ip_address(text)))
    return Lookup(usable[:MAX_ADDRESSES], min(ttls))


def _follow(old: NameAnswer, new: Lookup, now: float) -> NameAnswer:
    """Return what is kept after an answer."""
    due = now + min(max(new.ttl, MIN_TTL_S), MAX_TTL_S)
    if new.addresses:
        return NameAnswer(new.addresses, now, due)
    kept = old.addresses if now - old.good < KEEP_S else ()
    return NameAnswer(kept, old.good, due, DENIED)


def _is_due(answer: NameAnswer, now: float) -> bool:
    """Return whether to ask; a time beyond every TTL was written by a clock that was wrong."""
    return not now < answer.due <= now + MAX_TTL_S


def _is_usable(address: IPv4Address | IPv6Address) -> bool:
    """Return whether a source can have the address."""
    return not (address.is_unspecified or address.is_loopback or address.is_multicast)


def _checked(family: str, given: Any) -> NameAnswer:  # noqa: ANN401 - of a file
    try:
        answer = NameAnswer(**given)
        texts = [str(ip_address(text)) for text in answer.addresses]
        usable = [t for t in texts if _is_usable(ip_address(t)) and (":" in t) == (family == "6")]
        return NameAnswer(
            tuple(usable[:MAX_ADDRESSES]), float(answer.good), float(answer.due), str(answer.fault)
        )
    except (TypeError, ValueError):
        return NameAnswer()
