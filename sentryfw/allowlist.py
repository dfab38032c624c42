"""Lists of addresses that people write: text in, networks and warnings out; never an exception.

One address or network a line, `#` or `;` begins a comment. Whatever is wrong with a line is
read the way its author meant where that is plain, with a warning that names the line; a line
that could mean several things is left out, with a warning as well.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

MAX_BYTES: Final = 1 << 20
MAX_WARNINGS: Final = 1000
"""A file of garbage says enough with its first thousand lines."""

IPNetwork = IPv4Network | IPv6Network

_COMMENT: Final = re.compile(r"[#;].*")
_SLASH: Final = re.compile(r"\s*/\s*")
_BETWEEN: Final = re.compile(r"[\s,]+")
_STARS: Final = re.compile(r"(?:\d{1,3}\.){1,3}(?:\*\.?){1,3}", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"(?:^|\.)0\d", re.ASCII)


class Listed(NamedTuple):
    """A network, and the line it stands on."""

    network: IPNetwork
    line: int


class Warned(NamedTuple):
    """What was wrong with a line, and what was made of it."""

    line: int
    said: str


class Allowlist(NamedTuple):
    entries: list[Listed]
    warnings: list[Warned]


def parse(data: bytes) -> Allowlist:
    """Every network in the file, in its order."""
    found = Allowlist([], [])
    if len(data) > MAX_BYTES:
        found.warnings.append(Warned(1, f"larger than {MAX_BYTES} bytes: the rest is not read"))
    for number, line in enumerate(lines(data[:MAX_BYTES]), 1):
        _read(number, _COMMENT.sub("", line).strip(), found)
    del found.warnings[MAX_WARNINGS:]
    return found


def lines(data: bytes) -> list[str]:
    """Lines whatever their ends are (LF, CRLF, CR), without a byte order mark or control codes."""
    text = data.decode("utf-8", "replace").removeprefix("\N{BYTE ORDER MARK}")
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    return [re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", line) for line in ends.split("\n")]


def _read(number: int, text: str, found: Allowlist) -> None:
    words = [word for word in _BETWEEN.split(_SLASH.sub("/", text)) if word]
    for index, word in enumerate(words):
        network, said = read_network(word)
        if network is None and index:
            rest = " ".join(words[index:])
            found.warnings.append(Warned(number, f"{rest[:60]!r} after the address is ignored"))
            return
        if said:
            found.warnings.append(Warned(number, said))
        if network is not None:
            found.entries.append(Listed(network, number))
    if len(words) > 1:
        found.warnings.append(Warned(number, "several addresses on one line: all of them are read"))


def read_network(word: str) -> tuple[IPNetwork | None, str]:
    """The network that a word means (None: it cannot be said which), and what was wrong."""
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
        return None, f"{shown}: a leading zero means octal to some and decimal to others: left out"
    try:
        network = ip_network(f"{address}{slash}{bits}", strict=False)
        host = ip_address(address)
    except ValueError:
        return None, f"{shown} is neither an address nor a network: left out"
    if network.prefixlen == 0:
        return None, f"{shown} is everybody, nobody would ever be blocked: left out"
    return _unmapped(network), _remark(shown, word, network, host)


def _remark(shown: str, word: str, network: IPNetwork, host: IPv4Address | IPv6Address) -> str:
    if network.num_addresses > 1 and host != network.network_address:
        return f"{shown} has host bits: read as {network}"
    if "*" in word:
        return f"{shown}: read as {network}"
    if "%" in word:
        return f"{shown}: the interface is ignored"
    return ""


def _unmapped(network: IPNetwork) -> IPNetwork:
    """An IPv4-mapped network (RFC 4291, section 2.5.5.2) is the IPv4 one."""
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network
