"""Parse lists of addresses that people write: text in, networks and warnings out.

One address or network a line; `#` or `;` begins a comment. Parsing never raises: a line with a
fault is read as its author meant it where that is clear, and ignored where it could mean several
things; both give a warning that names the line. Names of hosts are read only where the caller asks
for them, as the allowlist does.
"""

import re
from ipaddress import IPv4Network
from socket import inet_aton
from typing import Final, NamedTuple

from sentryfw.config.types import IPAddress, IPNetwork, parse_address, parse_network
from sentryfw.text import full_name

MAX_BYTES: Final = 1 << 20
IGNORED: Final = ": ignored"
"""The end of a warning about text that was not read."""
MAX_WARNINGS: Final = 1000
"""Warnings that are kept of one file."""

_FIELD: Final = r"(?:0|[1-9]\d{0,2})"
_PLAIN: Final = re.compile(rf"({_FIELD}(?:\.{_FIELD}){{3}})(?:/(\d{{1,2}}))?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COMMENT: Final = re.compile(r"[#;].*")
_SLASH: Final = re.compile(r"\s*/\s*")
_BETWEEN: Final = re.compile(r"[\s,]+")
_STARS: Final = re.compile(r"(?:\d{1,3}\.){1,3}(?:\*\.?){1,3}", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"(?:^|\.)0\d", re.ASCII)


class Listed(NamedTuple):
    """A network and the number of its line."""

    network: IPNetwork
    line: int


class Warned(NamedTuple):
    """A fault of a line, and how the line was read."""

    line: int
    text: str


class Allowlist(NamedTuple):
    """The contents of a list."""

    entries: list[Listed]
    warnings: list[Warned]
    names: list[tuple[str, int]] | None = None
    """Names of hosts with their lines; None: a name is a fault."""


def parse(data: bytes, *, names: bool = False) -> Allowlist:
    """Return the networks of a file in their order, and warnings. `names`: read names, too."""
    found = Allowlist([], [], [] if names else None)
    if len(data) > MAX_BYTES:
        found.warnings.append(Warned(1, f"larger than {MAX_BYTES} bytes: the rest is ignored"))
    for number, line in enumerate(lines(data[:MAX_BYTES]), 1):
        network = _plain_network(line)
        if network is not None:
            found.entries.append(Listed(network, number))
        else:
            _read(number, _COMMENT.sub("", line).strip(), found)
    del found.warnings[MAX_WARNINGS:]
    return found


def lines(data: bytes) -> list[str]:
    """Split text at LF, CRLF or CR, without a byte order mark and control codes."""
    text = data.decode("utf-8", "replace").removeprefix("\N{BYTE ORDER MARK}")
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", ends).split("\n")


def _plain_network(line: str) -> IPv4Network | None:
    """Return the network of a line of nothing else, as nearly all of 100,000 are; None for a line
    that has more, or something to remark."""
    match = _PLAIN.fullmatch(line)
    if match is None:
        return None
    try:
        first = int.from_bytes(inet_aton(match[1]))
    except OSError:
        return None
    bits = int(match[2] or 32)
    if not 0 < bits <= 32 or first & ((1 << 32 - bits) - 1):
        return None
    return IPv4Network((first, bits))


def _read(number: int, text: str, found: Allowlist) -> None:
    words = [word for word in _BETWEEN.split(_SLASH.sub("/", text)) if word]
    for index, word in enumerate(words):
        network, fault = read_network(word)
        name = full_name(word) if network is None and found.names is not None else ""
        if name and found.names is not None:
            found.names.append((name, number))
            continue
        if network is None and index:
            rest = " ".join(words[index:])
            found.warnings.append(Warned(number, f"{rest[:60]!r} after the address{IGNORED}"))
            return
        if fault:
            found.warnings.append(Warned(number, fault))
        if network is not None:
            found.entries.append(Listed(network, number))
    if len(words) > 1:
        found.warnings.append(Warned(number, "several addresses on one line: read all of them"))


def read_network(word: str) -> tuple[IPNetwork | None, str]:
    """Return the network that a word means (None if that is not clear), and its fault."""
    shown = repr(word[:60])
    plain = word.replace("[", "").replace("]", "")
    address, slash, bits = plain.partition("/")
    address = address.partition("%")[0].rstrip(".") if ":" in address else address
    if _STARS.fullmatch(address) and not slash:
        fields = [field for field in address.rstrip(".").split(".") if field != "*"]
        address, slash, bits = (
            ".".join(fields + ["0"] * (4 - len(fields))),
            "/",
            f"{len(fields) * 8}",
        )
    if _LEADING_ZERO.search(address) and ":" not in address:
        return None, (
            f"{shown}: a leading zero means octal to some programs and decimal to others{IGNORED}"
        )
    try:
        network = parse_network(f"{address}{slash}{bits}")
        host = parse_address(address)
    except ValueError:
        return None, f"{shown} is neither an address nor a network{IGNORED}"
    if network.prefixlen == 0:
        return None, f"{shown} covers all addresses, no source would be blocked{IGNORED}"
    return network, _remark(shown, word, network, host)


def _remark(shown: str, word: str, network: IPNetwork, host: IPAddress) -> str:
    if network.num_addresses > 1 and host != network.network_address:
        return f"{shown} has host bits: read as {network}"
    if "*" in word:
        return f"{shown}: read as {network}"
    if "%" in word:
        return f"{shown}: the interface is ignored"
    return ""
