"""The removal of secrets, and on request of addresses, from text. Pure.

An address becomes the same placeholder everywhere in a text, so that events can still be related.
"""

import re
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from sentryfw.config.types import IPAddress, parse_address

HIDDEN: Final = "<hidden>"
MIN_SECRET_LENGTH: Final = 4
"""Characters; a shorter text would be found within ordinary words."""
PERSONAL: Final = (
    ("respond", "mail", "to"), ("respond", "mail", "sender"), ("respond", "mail", "host"),
    ("respond", "syslog", "host"), ("respond", "syslog", "server_name"),
    ("respond", "dns", "servers"), ("decoy", "banner"),
)  # fmt: skip
"""Keys whose values name people and hosts."""

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
"""An event's id contains a checksum of its address; trying all of IPv4 takes minutes."""


def remove_secrets(text: str, known: list[str]) -> str:
    """Return the text without the known secrets, and without values named password, token, ..."""
    for secret in sorted(
        {word for word in known if len(word) >= MIN_SECRET_LENGTH}, key=len, reverse=True
    ):
        text = text.replace(secret, HIDDEN)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _IN_URL.sub(rf"\1{HIDDEN}@", text)


def replace_addresses(text: str) -> str:
    """Return the text with placeholders for addresses (IPv4, IPv6, MAC, mail) and this host's
    name."""
    names: dict[str, str] = {}
    host = socket.gethostname()
    text = _EVENT.sub("<event>", text)
    text = _MAIL.sub("<mail>", text)
    text = _MAC.sub(lambda found: _name(names, found[0].lower(), "mac"), text)
    text = _IPV6.sub(lambda found: _address(names, found[0]), text)
    text = _IPV4.sub(lambda found: _address(names, found[0]), text)
    if len(host) >= MIN_SECRET_LENGTH and host != "localhost":
        text = re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", "<host>", text)
    return text


def redact_config(table: dict[str, Any], *, hide: bool) -> dict[str, Any]:
    """Hide the arguments of the command, and with `hide` the names of people and hosts."""
    argv = table["respond"]["command"]["argv"]
    table["respond"]["command"]["argv"] = [*argv[:1], *[HIDDEN for _ in argv[1:]]]
    for path in PERSONAL if hide else ():
        section = _section(table, path)
        if section.get(path[-1]):
            section[path[-1]] = HIDDEN
    for webhook in table["respond"]["webhook"] if hide else ():
        webhook |= {key: HIDDEN for key in ("url", "to") if webhook[key]}
    return table


def personal_words(table: dict[str, Any]) -> list[str]:
    """Return the names of people and hosts in a configuration, which errors may repeat."""
    found: list[str] = []
    for path in PERSONAL:
        value = _section(table, path).get(path[-1])
        found += [str(word) for word in (value if isinstance(value, list) else [value]) if word]
    for webhook in table["respond"]["webhook"]:
        host = urlsplit(webhook["url"] or "").hostname
        found += [word for word in (host, webhook["to"]) if word]
    return [word for word in found if word != "localhost"]


def _section(table: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        table = table[key]
    return table


def _address(names: dict[str, str], text: str) -> str:
    """Return the placeholder of an address; a text that only looks like one (a time) stays."""
    tail = ":" if text.endswith(":") and not text.endswith("::") else ""
    try:
        address = parse_address(text.removesuffix(tail) if tail else text)
    except ValueError:
        return text
    if _is_common(address):
        return text
    return _name(names, str(address), f"ip{address.version}") + tail


def _is_common(address: IPAddress) -> bool:
    """Return whether any host has it: loopback, masks, multicast, the unspecified address."""
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return True
    bits = f"{int(address):0{address.max_prefixlen}b}"
    return "01" not in bits


def _name(names: dict[str, str], text: str, kind: str) -> str:
    if text not in names:
        count = sum(name.startswith(f"<{kind}-") for name in names.values())
        names[text] = f"<{kind}-{count + 1}>"
    return names[text]
