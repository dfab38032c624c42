"""The parser of PortSentry's files, 1.x and 2.x: bytes in, values and warnings out; it raises
nothing.

A faulty line is read as its author probably meant it, with a warning that names the line.
PortSentry itself reads such files differently without a message, or does not start. Where the two
generations differ (a key given twice), each file is read as its own generation would.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from sentryfw.config.types import IPAddress, parse_address, unmapped
from sentryfw.host.address_list import Warned, lines

MAX_BYTES: Final = 1 << 22

OPTIONS: Final = (
    "BLOCK_TCP", "BLOCK_UDP", "RESOLVE_HOST", "SCAN_TRIGGER", "KILL_ROUTE", "KILL_HOSTS_DENY",
    "KILL_RUN_CMD", "KILL_RUN_CMD_FIRST", "BLOCKED_FILE", "HISTORY_FILE", "IGNORE_FILE",
    "TCP_PORTS", "UDP_PORTS", "ADVANCED_PORTS_TCP", "ADVANCED_PORTS_UDP", "ADVANCED_EXCLUDE_TCP",
    "ADVANCED_EXCLUDE_UDP", "PORT_BANNER",
)  # fmt: skip
"""The options in the order in which 2.x compares them: it accepts any prefix of a name, and takes
the first match."""
MODES: Final = ("TCP_MODE", "UDP_MODE")

_QUOTES: Final = str.maketrans("\u201c\u201d\u201e\u2018\u2019", '"""\'\'')
_SETTING: Final = re.compile(r"(?:export\s+)?([A-Za-z_]+)\s*(=?)\s*(.*)")
_PORTS: Final = re.compile(r"(\d{1,5})(?:\s*[-:]\s*(\d{1,5}))?", re.ASCII)
_HISTORY: Final = re.compile(r"Host: ?\S*?/?([0-9A-Fa-f:.]{2,45}) Port: ?(\d{1,5}) (TCP|UDP)")
_SCAN_FROM: Final = re.compile(
    r"Scan from: \[([0-9A-Fa-f:.]{2,45})\].*?protocol: \[(TCP|UDP)\] port: \[(\d{1,5})\]"
)
FAMILIES: Final = {2: {2: 4, 10: 16}, 1: {2: 4, 24: 16, 28: 16}}
"""Size of sa_family in bytes -> its value -> size of an address in bytes. Linux has two bytes and
AF_INET6 = 10; the BSDs have one, AF_INET6 = 24 (NetBSD, OpenBSD) or 28 (FreeBSD)."""


class Setting(NamedTuple):
    """The value of an option, and its line."""

    value: str
    line: int


class Settings(NamedTuple):
    """The content of a file of KEY="value" lines."""

    options: dict[str, Setting]
    warnings: list[Warned]
    generation: int
    """The major version of PortSentry, 1 or 2."""


class SeenHost(NamedTuple):
    """A host in a history or blocked file."""

    address: IPAddress
    port: int | None
    protocol: str


def parse_settings(data: bytes, names: tuple[str, ...] = OPTIONS) -> Settings:
    """Parse portsentry.conf, or with `names=MODES` /etc/default/portsentry."""
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
            warnings.append(
                Warned(number, f"{text[:60]!r} is not an option of PortSentry: ignored")
            )
            continue
        value, faults = _value(match[3])
        if match[1] != name:
            faults.append(f"written {match[1]!r}")
        if not match[2]:
            faults.append("no '=': read as if there were one")
        if name in options:
            kept = options[name].line if generation == 1 else number
            faults.append(f"given twice, also on line {options[name].line}: line {kept} applies")
        warnings += (Warned(number, f"{name}: {fault}") for fault in faults)
        if name not in options or generation == 2:
            options[name] = Setting(value, number)
    return Settings(options, warnings, generation)


def _generation(rows: list[str]) -> int:
    """Return the generation: 1.x has ADVANCED_* and no ranges; 2.x names itself in a comment."""
    plain = [row for row in rows if not row.lstrip().startswith("#")]
    if any("ADVANCED_" in row for row in plain):
        return 1
    if any("PortSentry 2" in row for row in rows):
        return 2
    return 2 if any(re.search(r"_PORTS.*\d-\d", row) for row in plain) else 1


def _ends(data: bytes, rows: list[str]) -> list[Warned]:
    """Return the warnings on the file as a whole."""
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
    """Return the text in quotes, or the words up to a comment; and the faults."""
    if text[:1] in {'"', "'"}:
        quote = text[0]
        value, found, rest = text[1:].partition(quote)
        faults = [] if found else [f"no closing {quote}: read up to the end of the line"]
        rest = rest.strip()
        if rest.startswith("#"):
            faults.append("the comment after it is ignored")
        elif rest:
            faults.append(f"{rest[:60]!r} after it is ignored")
        return value.strip(), faults
    value = re.split(r"\s#|^#", text, maxsplit=1)[0].strip()
    return value, ["no quotes: read as if there were"] if value else ["empty"]


def parse_ports(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the ranges of a list of ports, in its order, and the faults."""
    ports: list[tuple[int, int]] = []
    faults = []
    for item in (piece.strip() for piece in re.split(r"[,;]|(?<=\d)\s+(?=\d)", text)):
        match = _PORTS.fullmatch(item)
        if not item:
            continue
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 65536)
        if first > last:
            faults.append(f"{item!r} runs backwards: read as {last}-{first}")
            first, last = last, first
        if last > 65535:
            faults.append(f"{item[:20]!r} is not a port: left out")
        else:
            ports.append((first, last))
    return ports, faults


def parse_number(text: str, default: int) -> tuple[int, list[str]]:
    """Return the number at the start of a value, as atoi(3) does, and the faults."""
    match = re.match(r"\s*([+-]?\d{1,9})", text, re.ASCII)
    if match is None:
        return default, [f"{text[:20]!r} is not a number: read as {default}"]
    rest = text[match.end() :].strip()
    return int(match[1]), [f"{rest[:20]!r} after the number is ignored"] if rest else []


def parse_hosts(data: bytes) -> tuple[list[SeenHost], list[Warned]]:
    """Parse a history or blocked file: text of 1.x or 2.x, or binary records of 2.x."""
    binary = _records(data[:MAX_BYTES])
    if binary is not None:
        return binary, []
    found, warnings = [], []
    for number, line in enumerate(lines(data[:MAX_BYTES]), 1):
        if not line.strip():
            continue
        seen = _seen(line)
        if seen is None:
            warnings.append(Warned(number, f"{line[:60]!r} does not name a host: ignored"))
        else:
            found.append(seen)
    return found, warnings


def _seen(line: str) -> SeenHost | None:
    try:
        if match := _SCAN_FROM.search(line):
            return SeenHost(parse_address(match[1]), int(match[3]), match[2])
        if match := _HISTORY.search(line):
            return SeenHost(parse_address(match[1]), int(match[2]), match[3])
    except ValueError:
        return None
    return None


def _records(data: bytes) -> list[SeenHost] | None:
    """Parse records of sa_family, in the byte order of the machine, and address; None for another
    file."""
    for order, width in (("little", 2), ("big", 2), ("little", 1)):
        found = list(_read_records(data, order, width))
        if found and None not in found:
            return [seen for seen in found if seen is not None]
    return None


def _read_records(data: bytes, order: str, width: int) -> Iterator[SeenHost | None]:
    """Yield the hosts, and None where the bytes are not a record."""
    offset = 0
    while offset < len(data):
        family = int.from_bytes(data[offset : offset + width], order)  # type: ignore[arg-type]
        size = FAMILIES[width].get(family, 0)
        offset += width
        address = data[offset : offset + size]
        if not size or len(address) < size:
            yield None
            return
        yield SeenHost(unmapped(ip_address(address)), None, "")
        offset += size
