"""rulesets/*.nft and a configuration -> one nft script. Text in, text out; no kernel.

The files are genuine nft. What varies is given to them as `define`s in a header, or is a file
that is loaded or not; nothing is spliced into a rule.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sentryfw.config import DECOY_MARK, Config
from sentryfw.errors import SentryError
from sentryfw.fields import PORTS, PortRange, merged, ports_text
from sentryfw.netfilter import forward
from sentryfw.netfilter.host import ALWAYS
from sentryfw.netfilter.table import TABLE, IPNetwork

_INCLUDE: Final = re.compile(r'^\s*include "([a-z_]+\.nft)"$', re.MULTILINE)
_OBJECT: Final = re.compile(r"^\t(set|chain|counter) (\w+) \{$", re.MULTILINE)
_FILLED_SET: Final = re.compile(r"^\tset (\w+) \{\n(?:\t\t.*\n)*?\t\telements = ", re.MULTILINE)

EMPTY: Final = "{ }"
_OPTIONAL: Final = {
    "watched_if": "interfaces.nft",
    "unwatched_tcp": "ports_tcp.nft",
    "unwatched_udp": "ports_udp.nft",
    "decoy_tcp": "decoy.nft",
    "decoy_udp": "decoy_udp.nft",
}
"""What is loaded where a value is not empty."""
_OPTIONAL_FORWARD: Final = {
    "unwatched_tcp": "forward_tcp.nft",
    "unwatched_udp": "forward_udp.nft",
    "listed_forward4": "forward_listed4.nft",
    "listed_forward6": "forward_listed6.nft",
}
"""Likewise, behind forward.nft."""
_OPTIONAL_INSIDE: Final = {"decoy_tcp": "inside_decoy.nft", "decoy_udp": "inside_decoy_udp.nft"}
"""Likewise, behind inside.nft."""


class Ruleset(NamedTuple):
    """A script, and what the table holds when it is loaded."""

    script: str
    sets: frozenset[str]
    chains: frozenset[str]
    counters: frozenset[str]


def directory() -> Path:
    """Where the rulesets are: in the installed package, or in the source tree."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "rulesets", package.parent / "rulesets"):
        if (place / "sentryfw.nft").is_file():
            return place
    raise SentryError(f"the rulesets are missing beside {package}: reinstall SentryFW")


def render(
    config: Config, never_block: Iterable[IPNetwork], *, queue_statement: bool, update: bool
) -> Ruleset:
    """The whole table. `queue_statement`: the kernel takes `queue`; else the queue rule is not
    part of the script. `update`: the table is there and of this schema: its rules and the sets
    of the configuration are replaced, blocks, partners and counters stay as they are."""
    body = _load("sentryfw.nft")
    values = _values(config, never_block)
    body += "".join(_optional(_OPTIONAL, values))
    if config.watch.mode == "traps":
        body += _load("traps.nft")
    if config.watch.forward:
        values += _forward_values(config)
        body += _load("forward.nft") + "".join(_optional(_OPTIONAL_FORWARD, values))
    if config.watch.inside:
        values += [("inside_if", _names(config.watch.inside))]
        body += _load("inside.nft")
        body += _load("inside_forward.nft") if config.watch.forward else ""
        body += "".join(_optional(_OPTIONAL_INSIDE, values))
    if queue_statement:
        body += _load("divert.nft")
    defines = "".join(f"define {name} = {value}\n" for name, value in values)
    start = _start(body, update=update)
    names: dict[str, set[str]] = {"set": set(), "chain": set(), "counter": set()}
    for kind, name in _OBJECT.findall(body):
        names[kind].add(name)
    return Ruleset(
        f"{defines}\n{start}\n{body}",
        frozenset(names["set"]), frozenset(names["chain"]), frozenset(names["counter"]),
    )  # fmt: skip


def restore_elements(lines: Iterable[str]) -> str:
    """Statements that put elements back, for a table that is made anew."""
    return "".join(f"add element inet {TABLE} {line}\n" for line in lines)


def _optional(files: dict[str, str], values: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (_load(files[name]) for name, value in values if name in files and value != EMPTY)


def _load(name: str) -> str:
    text = (directory() / name).read_text()
    return _INCLUDE.sub(lambda match: _load(match[1]).rstrip("\n"), text)


def _start(body: str, *, update: bool) -> str:
    if not update:
        return f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
    flushes = (f"flush set inet {TABLE} {name}\n" for name in _FILLED_SET.findall(body))
    return f"flush table inet {TABLE}\n" + "".join(flushes)


def _values(config: Config, never_block: Iterable[IPNetwork]) -> list[tuple[str, str]]:
    networks = [*never_block, *ALWAYS]
    four = collapse_addresses(net for net in networks if isinstance(net, IPv4Network))
    six = collapse_addresses(net for net in networks if isinstance(net, IPv6Network))
    udp = config.decoy.udp if config.decoy.banner else ()
    return [
        ("watched_if", _names(config.watch.interfaces)),
        ("never_block4", _elements(map(str, four))),
        ("never_block6", _elements(map(str, six))),
        ("listed_tcp", _elements(map(ports_text, config.watch.listed_tcp))),
        ("listed_udp", _elements(map(ports_text, config.watch.listed_udp))),
        ("listed_sctp", _elements(map(ports_text, config.watch.listed_sctp))),
        ("queue_number", str(config.queue.number)),
        ("unwatched_tcp", _elements(map(ports_text, unwatched(config, "tcp")))),
        ("unwatched_udp", _elements(map(ports_text, unwatched(config, "udp")))),
        ("decoy_tcp", _elements(map(ports_text, merged(config.decoy.tcp)))),
        ("decoy_udp", _elements(map(ports_text, merged(udp)))),
        ("decoy_port", str(config.decoy.port)),
        ("decoy_mark", f"0x{DECOY_MARK:x}"),
    ]


def _forward_values(config: Config) -> list[tuple[str, str]]:
    entries = config.watch.listed_forward
    return [(f"listed_forward{v}", _elements(forward.elements(entries, v))) for v in (4, 6)]


def unwatched(config: Config, protocol: Literal["tcp", "udp"]) -> list[PortRange]:
    """The ports that are not watched: all but traps and decoys, or those from `upper` on."""
    watch, decoy = config.watch, config.decoy
    if watch.mode == "traps":
        watched = watch.trap_tcp if protocol == "tcp" else watch.trap_udp
    else:
        watched = ((0, (watch.upper_tcp if protocol == "tcp" else watch.upper_udp) - 1),)
    found = []
    start = 0
    for first, last in merged((*watched, *(decoy.tcp if protocol == "tcp" else decoy.udp))):
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= PORTS:
        found.append((start, PORTS))
    return found


def _names(patterns: Iterable[str]) -> str:
    """Interfaces; nft refuses a name that another one covers."""
    given = list(dict.fromkeys(patterns))
    covered = {
        name
        for name in given
        for other in given
        if name != other and other.endswith("*") and name.startswith(other[:-1])
    }
    return _elements(f'"{name}"' for name in given if name not in covered)


def _elements(items: Iterable[str]) -> str:
    joined = ", ".join(items)
    return f"{{ {joined} }}" if joined else EMPTY
