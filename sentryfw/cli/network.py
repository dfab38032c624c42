"""What doctor says of the network: names that are watched in vain, bridges, routing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentryfw.config import Config
from sentryfw.fields import matches
from sentryfw.netfilter.links import Link, links

SYSCTL: Final = Path("/proc/sys/net")
BRIDGE_FILTERS: Final = ("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")
FORWARDING: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")

_UNSEEN: Final = (
    "what passes from port to port is neither judged nor blocked; what is routed or meant for this"
    " host is. With br_netfilter blocks hold for it: net.bridge.bridge-nf-call-iptables = 1, and"
    " bridge-nf-call-ip6tables"
)
_BOTH_SIDES: Final = (
    "br_netfilter shows what passes from port to port as routed, from both sides by the same name:"
    " with watch.forward what is opened from inside is judged, too. Do not watch this bridge, or"
    " route instead"
)

Row = tuple[str, str, str]
"""What was looked at, ok, info or warn, and what was found."""


def findings(config: Config) -> Iterator[Row]:
    """What of the network keeps SentryFW from seeing packets."""
    there = links()
    for pattern in config.watch.interfaces:
        yield from _watched(pattern, there)
    yield from _bridges(config, there)
    yield from _routing(config)


def _watched(pattern: str, there: list[Link]) -> Iterator[Row]:
    matching = [link for link in there if matches(link.name, [pattern])]
    if not matching:
        yield "interface", "info", f"{pattern}: none now; watched as soon as there is one"
    for link in matching:
        if not link.master:
            yield "interface", "ok", f"{link.name} is watched"
            continue
        said = f"{link.name} is a port of {link.master}, and its packets come in by that name"
        yield "interface", "warn", f"{said}: write {link.master} into watch.interfaces"


def _bridges(config: Config, there: list[Link]) -> Iterator[Row]:
    shown = any(_is_on(name) for name in BRIDGE_FILTERS)
    for bridge in (link.name for link in there if link.kind == "bridge"):
        if sum(link.master == bridge for link in there) < 2:
            continue  # nothing is bridged by it
        if not shown:
            yield "bridge", "info", f"{bridge}: {_UNSEEN}"
        elif config.watch.forward and matches(bridge, config.watch.interfaces):
            yield "bridge", "warn", f"{bridge}: {_BOTH_SIDES}"
        else:
            yield "bridge", "ok", f"{bridge}: blocks hold for what passes from port to port"


def _routing(config: Config) -> Iterator[Row]:
    routes = any(_is_on(name) for name in FORWARDING)
    if config.watch.forward and not routes:
        yield "forward", "warn", "watch.forward is set, but this host routes nothing (ip_forward)"
    elif routes and not config.watch.forward:
        yield "forward", "info", "this host routes; hosts behind are judged with watch.forward"
    elif routes:
        yield "forward", "ok", "hosts behind are judged"


def _is_on(name: str) -> bool:
    try:
        return (SYSCTL / name).read_text().strip() != "0"
    except OSError:  # no IPv6, no br_netfilter
        return False
