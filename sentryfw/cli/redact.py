"""Taking secrets, and on request addresses, out of text that is given away. Pure.

The same address becomes the same name everywhere in a text, so a story can still be followed.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

HIDDEN: Final = "<hidden>"
SHORTEST: Final = 4
"""Characters: anything shorter would be found within words everywhere."""
PERSONAL: Final = (
    ("respond", "mail", "to"), ("respond", "mail", "sender"), ("respond", "mail", "host"),
    ("respond", "syslog", "host"), ("respond", "syslog", "server_name"),
    ("respond", "dns", "servers"), ("decoy", "banner"),
)  # fmt: skip
"""Keys that name people and hosts."""

_NAMED: Final = re.compile(
    r"""(?ix) ( (?: pass(?:word|wd|phrase)? | secret | token | api[_-]?key | authorization )
    ["']? \s* [=:] \s* ) (?: "[^"\n]*" | '[^'\n]*' | [^\s,;}\]]+ )"""
)
_IN_URL: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:]+:[^\s/@]+@")
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?![\w:])")
_MAC: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
_MAIL: Final = re.compile(r"[^\s@<>\"',;]+@[^\s@<>\"',;]+")
_EVENT: Final = re.compile(r"\b[0-9a-f]{15,}-[0-9a-f]{8}\b")
"""An event's name holds a checksum of its address: four billion are tried in minutes."""


def secrets(text: str, known: list[str]) -> str:
    """Without these, and without what is called a password, a token, and so on."""
    for secret in sorted({word for word in known if len(word) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _IN_URL.sub(rf"\1{HIDDEN}@", text)


def addresses(text: str) -> str:
    """With names in place of addresses (IPv4, IPv6, MAC, mail) and of this host."""
    names: dict[str, str] = {}
    host = socket.gethostname()
    text = _EVENT.sub("<event>", text)
    text = _MAIL.sub("<mail>", text)
    text = _MAC.sub(lambda found: _name(names, found[0].lower(), "mac"), text)
    text = _IPV6.sub(lambda found: _address(names, found[0]), text)
    text = _IPV4.sub(lambda found: _address(names, found[0]), text)
    if len(host) >= SHORTEST and host != "localhost":
        text = re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", "<host>", text)
    return text


def configuration(table: dict[str, Any], *, hide: bool) -> dict[str, Any]:
    """The words of the command but its program are hidden, and `hide`: who and where, too."""
    argv = table["respond"]["command"]["argv"]
    table["respond"]["command"]["argv"] = [*argv[:1], *[HIDDEN for _ in argv[1:]]]
    for path in PERSONAL if hide else ():
        section = _section(table, path)
        if section.get(path[-1]):
            section[path[-1]] = HIDDEN
    return table


def personal(table: dict[str, Any]) -> list[str]:
    """What a configuration says of people and hosts: errors may repeat it."""
    found: list[str] = []
    for path in PERSONAL:
        value = _section(table, path).get(path[-1])
        found += [str(word) for word in (value if isinstance(value, list) else [value]) if word]
    return [word for word in found if word != "localhost"]


def _section(table: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        table = table[key]
    return table


def _address(names: dict[str, str], text: str) -> str:
    """A name for an address; what only looks like one (a time, a mask) stays."""
    tail = ":" if text.endswith(":") and not text.endswith("::") else ""
    try:
        address = ip_address(text.removesuffix(tail) if tail else text)
    except ValueError:
        return text
    if _says_nothing(address):
        return text
    return _name(names, str(address), f"ip{address.version}") + tail


def _says_nothing(address: IPv4Address | IPv6Address) -> bool:
    """The same everywhere: loopback, masks, multicast, the unspecified address."""
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return True
    bits = f"{int(address):0{address.max_prefixlen}b}"
    return "01" not in bits


def _name(names: dict[str, str], text: str, kind: str) -> str:
    if text not in names:
        count = sum(name.startswith(f"<{kind}-") for name in names.values())
        names[text] = f"<{kind}-{count + 1}>"
    return names[text]
