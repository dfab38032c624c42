"""Render rulesets/*.nft and a configuration as one nft script. Text in, text out; no kernel.

The files are genuine nft. What varies comes as `define`s in a header, or as a file that is loaded
or not; no rule is assembled here.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import starmap
from pathlib import Path
from typing import Final, Literal

from sentryfw.config.model import Config
from sentryfw.config.types import MAX_PORT, IPNetwork, PortRange, merged, ports_text
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.host.whole6 import LINK_LOCAL
from sentryfw.netfilter import listed_forward
from sentryfw.netfilter.schema import (
    DECOY_MARK,
    DEFERRED_BITS,
    HALF_OPEN_BIT,
    NET24,
    NET48,
    NET56,
    NET64,
    NET120,
    ONLINK_SETS,
    PARTNER_BIT,
    PEER_BIT,
    UNLISTED_BIT,
    WHOLE_SET,
)
from sentryfw.netfilter.script import Ruleset, define, elements, networks_text

_INCLUDE: Final = re.compile(r'^\s*include "([a-z_]+\.nft)"$', re.MULTILINE)
_ALL_PORTS: Final[PortRange] = (0, MAX_PORT)
_ALL_PROTOCOLS: Final = "0-255"
IDENT_PORT: Final = 113
"""RFC 1413; chain ident of divert_input.nft."""
_MASKS: Final = {
    "net24": NET24, "net48": NET48, "net56": NET56, "net64": NET64, "net120": NET120,
}  # fmt: skip
"""Defines of the masks that make a source, or a prefix, of an address."""
_MARKS: Final = {
    "mark_unlisted": UNLISTED_BIT,
    "mark_partner": PARTNER_BIT,
    "mark_half_open": HALF_OPEN_BIT,
    "mark_deferred": DEFERRED_BITS,
    "mark_peer": PEER_BIT,
    "decoy_mark": DECOY_MARK,
}
"""Defines of packet mark bits, and the mark of the decoy's sockets."""


def directory() -> Path:
    """Return the directory of the rulesets: in the installed package, or in the source tree."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "rulesets", package.parent / "rulesets"):
        if (place / "sentryfw.nft").is_file():
            return place
    raise SentryError(f"the rulesets are missing from {package}: reinstall SentryFW")


def render(config: Config, never_block: NetworkIndex, onlink: Iterable[IPNetwork] = ()) -> Ruleset:
    """Render the whole table of a configuration.

    `never_block`: with loopback's networks, as index_of() makes it. `onlink`: the prefixes that
    addresses of this host connect it to.
    """
    return Ruleset(
        defines="".join(starmap(define, _values(config, list(onlink)).items())),
        body="".join(map(_load, _files(config))),
        queue_rule=_load("queue.nft"),
        queue_number=config.queue.number,
        never_block=(never_block.ranges(4), never_block.ranges(6)),
    )


def _files(config: Config) -> Iterator[str]:
    yield "sentryfw.nft"
    zones = config.zone
    for name, is_loaded in (
        ("divert_forward", config.watch.forward),
        ("zones", any(zone.listed_tcp or zone.listed_udp or zone.listed_sctp for zone in zones)),
        ("reject", config.block.unlisted == "reject"),
        ("away", config.drops_while_away),
        ("prefixes", config.block.prefixes in ("ipv6", "both")),
        ("fleet", config.fleet.others),
        ("fleet_full", config.fleet.takes_networks),
        ("decoy", config.decoy.wanted),
        ("decoy_tcp", config.decoy.tcp),
        ("decoy_udp", config.decoy.answered),
    ):
        if is_loaded:
            yield f"{name}.nft"


def _load(name: str) -> str:
    text = (directory() / name).read_text()
    return _INCLUDE.sub(lambda match: _load(match[1]).rstrip("\n"), text)


def _values(config: Config, onlink: list[IPNetwork]) -> dict[str, str]:
    """Return the defines: marks and masks, the chains to jump to, the elements of named sets."""
    watch, decoy = config.watch, config.decoy
    watch_chain = "watch_some" if watch.interfaces else "watch_all"
    return {
        **_MASKS,
        **{name: f"0x{mark:08x}" for name, mark in _MARKS.items()},
        "watch": watch_chain,
        "watch_forward": "watch_forward" if _inside(config) else watch_chain,
        "watch_out": "watch_out_some" if watch.interfaces else "watch_out_all",
        "originated": "blocked_except_decoy" if decoy.tcp else "blocked",
        "live": "fleet_live" if config.fleet.others else "pass_live",
        "confined": "drop_confined_except_decoy" if decoy.tcp else "drop_confined",
        "raw_syn": "raw_syn_deferred" if watch.defers_raw_syn else "raw_syn_served",
        "queue_number": str(config.queue.number),
        "decoy_port": str(decoy.port),
        **{name: elements(items) for name, items in _set_elements(config, onlink)},
    }


def _set_elements(config: Config, onlink: list[IPNetwork]) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the elements of the named sets, without the never-block sets."""
    watch, decoy = config.watch, config.decoy
    zones = [name for zone in config.named_zones() for name in zone.interfaces]
    yield "watched_if", _names((*watch.interfaces, *zones)) if watch.interfaces else ()
    yield "inside_if", _names(_inside(config))
    yield "observed_if", _names(config.accepting())
    for protocol in ("tcp", "udp", "sctp"):
        yield f"zone_{protocol}", _zone_ports(config, f"listed_{protocol}")
    linked = NetworkIndex([*onlink, LINK_LOCAL])
    whole = linked.joined(NetworkIndex(config.detect.whole6))
    on4, on6 = ONLINK_SETS
    yield on4, networks_text(linked.ranges(4), 32)
    yield on6, networks_text(linked.ranges(6), 128)
    yield WHOLE_SET, networks_text(whole.ranges(6), 128)
    yield "listed_forward4", listed_forward.elements(watch.listed_forward, 4)
    yield "listed_forward6", listed_forward.elements(watch.listed_forward, 6)
    traps = watch.mode == "traps"
    unwatched_tcp = unwatched(config, "tcp")
    for name, ports in (
        ("unwatched_tcp", unwatched_tcp),
        ("unwatched_udp", unwatched(config, "udp")),
        ("unwatched_reset", [_ALL_PORTS] if traps else unwatched_tcp),
        ("unlimited_tcp", merged((*unwatched_tcp, *_perhaps_listed(config), *decoy.tcp))),
        ("listed_tcp", watch.listed_tcp),
        ("listed_udp", watch.listed_udp),
        ("listed_sctp", watch.listed_sctp),
        ("greylist_tcp", merged(watch.greylist_tcp)),
        ("decoy_tcp", merged(decoy.tcp)),
        ("decoy_udp", merged(decoy.udp if decoy.banner else ())),
    ):
        yield name, map(ports_text, ports)
    yield "unwatched_protocol", [_ALL_PROTOCOLS] if traps else []


def _inside(config: Config) -> list[str]:
    """Return the interfaces that lead inside."""
    return [name for zone in config.named_zones() if zone.inside for name in zone.interfaces]


def _zone_ports(config: Config, key: str) -> Iterator[str]:
    """Yield the ports that zones list, each with an interface."""
    for zone in config.zone:
        for name in _names(zone.interfaces):
            for ports in merged(getattr(zone, key)):
                yield f"{name} . {ports_text(ports)}"


def _perhaps_listed(config: Config) -> Iterator[PortRange]:
    """Yield the TCP ports that are listed by hand, for some zone, or for some sources (ident)."""
    yield from config.watch.listed_tcp
    for zone in config.zone:
        yield from zone.listed_tcp
    yield IDENT_PORT, IDENT_PORT


def unwatched(config: Config, protocol: Literal["tcp", "udp"]) -> list[PortRange]:
    """Return the ports that are not watched: all but traps and decoys, or those from `upper` on."""
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
    if start <= MAX_PORT:
        found.append((start, MAX_PORT))
    return found


def _names(patterns: Iterable[str]) -> list[str]:
    """Return quoted interface names. nft refuses a name that another one's wildcard covers."""
    given = list(dict.fromkeys(patterns))
    covered = {
        name
        for name in given
        for other in given
        if name != other and other.endswith("*") and name.startswith(other[:-1])
    }
    return [f'"{name}"' for name in given if name not in covered]
