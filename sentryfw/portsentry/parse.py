"""PortSentry's files, 1.x and 2.x: bytes in, values and warnings out; never an exception.

What is wrong with a line is read the way its author meant, and the warning names the line.
PortSentry itself reads such files silently otherwise, or does not start; where the two
generations differ (a key given twice), each file is read as its own generation would.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from sentryfw.allowlist import Warned, lines

MAX_BYTES: Final = 1 << 22

OPTIONS: Final = (
    "BLOCK_TCP", "BLOCK_UDP", "RESOLVE_HOST", "SCAN_TRIGGER", "KILL_ROUTE", "KILL_HOSTS_DENY",
    "KILL_RUN_CMD", "KILL_RUN_CMD_FIRST", "BLOCKED_FILE", "HISTORY_FILE", "IGNORE_FILE",
    "TCP_PORTS", "UDP_PORTS", "ADVANCED_PORTS_TCP", "ADVANCED_PORTS_UDP", "ADVANCED_EXCLUDE_TCP",
    "ADVANCED_EXCLUDE_UDP", "PORT_BANNER",
)  # fmt: skip
"""In the order in which 2.x compares them: it takes any prefix of a name, the first that fits."""
MODES: Final = ("TCP_MODE", "UDP_MODE")

_QUOTES: Final = str.maketrans("\u201c\u201d\u201e\u2018\u2019", '"""\'\'')
_SETTING: Final = re.compile(r"(?:export\s+)?([A-Za-z_]+)\s*(=?)\s*(.*)")
_PORTS: Final = re.compile(r"(\d{1,5})(?:\s*[-:]\s*(\d{1,5}))?", re.ASCII)
_HISTORY: Final = re.compile(r"Host: ?\S*?/?([0-9A-Fa-f:.]{2,45}) Port: ?(\d{1,5}) (TCP|UDP)")
_SCAN_FROM: Final = re.compile(
    r"Scan from: \[([0-9A-Fa-f:.]{2,45})\].*?protocol: \[(TCP|UDP)\] port: \[(\d{1,5})\]"
)
FAMILIES: Final = {2: {2: 4, 10: 16}, 1: {2: 4, 24: 16, 28: 16}}
"""Bytes of sa_family -> its value -> bytes of an address. Linux has two and AF_INET6 = 10; the
BSDs have one, AF_INET6 = 24 (NetBSD, OpenBSD) or 28 (FreeBSD)."""


class Setting(NamedTuple):
    """One option, and the line it stands on."""

    value: str
    line: int


class Settings(NamedTuple):
    """A file of KEY="value" lines."""

    options: dict[str, Setting]
    warnings: list[Warned]
    generation: int
    """1 or 2."""


class Seen(NamedTuple):
    """A host out of a history or blocked file."""

    address: IPv4Address | IPv6Address
    port: int | None
    protocol: str


def parse_settings(data: bytes, names: tuple[str, ...] = OPTIONS) -> Settings:
    """portsentry.conf, or with MODES /etc/default/portsentry."""
    rows = lines(data[:MAX_BYTES])
    generation = _generation(rows)
    options: dict[str, Setting] = {}
    warnings = _ends(data, rows)
    for number, row in enumerate(rows, 1):
        text = row.translate(_QUOTES).strip()
        if not text or text.startswith("#"):
            continue
        match = _SETTING.fullmatch(text)
        name = _name(match[1], names, exact=not match[2]) if match else None
        if match is None or name is None:
            warnings.append(Warned(number, f"{text[:60]!r} is no option of PortSentry: ignored"))
            continue
        value, said = _value(match[3])
        if match[1] != name:
            said.append(f"written {match[1]!r}")
        if not match[2]:
            said.append("no '=': read as if there were one")
        if name in options:
            kept = options[name].line if generation == 1 else number
            said.append(f"given twice, also on line {options[name].line}: line {kept} holds")
        warnings += (Warned(number, f"{name}: {what}") for what in said)
        if name not in options or generation == 2:
            options[name] = Setting(value, number)
    return Settings(options, warnings, generation)


def _generation(rows: list[str]) -> int:
    """1.x has ADVANCED_* and no ranges; a comment of 2.x's own says what it is."""
    plain = [row for row in rows if not row.lstrip().startswith("#")]
    if any("ADVANCED_" in row for row in plain):
        return 1
    if any("PortSentry 2" in row for row in rows):
        return 2
    return 2 if any(re.search(r"_PORTS.*\d-\d", row) for row in plain) else 1


def _ends(data: bytes, rows: list[str]) -> list[Warned]:
    """What is wrong with the file as a whole."""
    found = []
    if len(data) > MAX_BYTES:
        found.append(Warned(1, f"larger than {MAX_BYTES} bytes: the rest is not read"))
    if b"\r" in data:
        number = data[: data.index(b"\r")].count(b"\n") + 1
        found.append(Warned(number, "line ends of DOS or Mac OS: read as line ends"))
    if data and not data.endswith((b"\n", b"\r")):
        found.append(Warned(len(rows), "no newline at the end: read as if there were one"))
    return found


def _name(word: str, names: tuple[str, ...], *, exact: bool) -> str | None:
    upper = word.upper()
    if upper in names or exact:
        return upper if upper in names else None
    return next((name for name in names if name.startswith(upper)), None)


def _value(text: str) -> tuple[str, list[str]]:
    """What stands in quotes, or the words up to a comment."""
    if text[:1] in {'"', "'"}:
        quote = text[0]
        value, found, rest = text[1:].partition(quote)
        said = [] if found else [f"no closing {quote}: read up to the end of the line"]
        rest = rest.strip()
        if rest.startswith("#"):
            said.append("the comment behind it is ignored")
        elif rest:
            said.append(f"{rest[:60]!r} behind it is ignored")
        return value.strip(), said
    value = re.split(r"\s#|^#", text, maxsplit=1)[0].strip()
    return value, ["no quotes: read as if there were"] if value else ["empty"]


def parse_ports(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    """The ranges of a port list, in its order, and what was wrong."""
    ports: list[tuple[int, int]] = []
    said = []
    for item in (piece.strip() for piece in re.split(r"[,;]|(?<=\d)\s+(?=\d)", text)):
        match = _PORTS.fullmatch(item)
        if not item:
            continue
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 65536)
        if first > last:
            said.append(f"{item!r} runs backwards: read as {last}-{first}")
            first, last = last, first
        if last > 65535:
            said.append(f"{item[:20]!r} is no port: left out")
        else:
            ports.append((first, last))
    return ports, said


def parse_number(text: str, default: int) -> tuple[int, list[str]]:
    """The number at the start of a value, as atoi(3) would."""
    match = re.match(r"\s*([+-]?\d{1,9})", text, re.ASCII)
    if match is None:
        return default, [f"{text[:20]!r} is no number: read as {default}"]
    rest = text[match.end() :].strip()
    return int(match[1]), [f"{rest[:20]!r} behind the number is ignored"] if rest else []


def parse_hosts(data: bytes) -> tuple[list[Seen], list[Warned]]:
    """A history or blocked file: text of 1.x or 2.x, or 2.x's binary records."""
    binary = _records(data[:MAX_BYTES])
    if binary is not None:
        return binary, []
    found, warnings = [], []
    for number, line in enumerate(lines(data[:MAX_BYTES]), 1):
        if not line.strip():
            continue
        seen = _seen(line)
        if seen is None:
            warnings.append(Warned(number, f"{line[:60]!r} names no host: ignored"))
        else:
            found.append(seen)
    return found, warnings


def _seen(line: str) -> Seen | None:
    try:
        if match := _SCAN_FROM.search(line):
            return Seen(ip_address(match[1]), int(match[3]), match[2])
        if match := _HISTORY.search(line):
            return Seen(ip_address(match[1]), int(match[2]), match[3])
    except ValueError:
        return None
    return None


def _records(data: bytes) -> list[Seen] | None:
    """sa_family, in the order of the machine, and address; None if it is no such file."""
    for order, width in (("little", 2), ("big", 2), ("little", 1)):
        found = list(_read_records(data, order, width))
        if found and None not in found:
            return [seen for seen in found if seen is not None]
    return None


def _read_records(data: bytes, order: str, width: int) -> Iterator[Seen | None]:
    """The hosts, and None where the bytes are no record."""
    offset = 0
    while offset < len(data):
        family = int.from_bytes(data[offset : offset + width], order)  # type: ignore[arg-type]
        size = FAMILIES[width].get(family, 0)
        offset += width
        address = data[offset : offset + size]
        if not size or len(address) < size:
            yield None
            return
        yield Seen(ip_address(address), None, "")
        offset += size
