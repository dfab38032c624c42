"""Removal of hosts.deny lines and routes while no daemon runs, and of those no longer configured.

The lines may be where an earlier configuration had them: at the place of the last good one, and at
the default place.
"""

from collections.abc import Iterable
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from sentryfw.config.respond import HostsDeny, Respond
from sentryfw.errors import ReactionFailed
from sentryfw.host import last_good
from sentryfw.netlink.route import RT_TABLE_MAIN
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.route import Routes


def undo(config: Respond, address: str | None) -> list[str]:
    """Remove line and route of an address (None: of all); return a text about each.

    Routes are removed even if the configuration no longer asks for them. Raise ReactionFailed if
    a removal fails.
    """
    return _remove([config.hosts_deny], address)


def undo_all(path: Path | None, config: Respond) -> list[str]:
    """Remove every line and route, at former places, too; see undo(). `path`: that of the
    configuration."""
    return _remove([config.hosts_deny, *_former(path)], None)


def undo_unwanted(path: Path | None, config: Respond, *, routes: bool = True) -> list[str]:
    """Remove the lines, and with `routes` the routes, that the configuration does not ask for; see
    undo_all()."""
    wanted = config.hosts_deny
    places = [place for place in _former(path) if place.path != wanted.path]
    if not wanted.enabled:
        places.insert(0, wanted)
    return _remove(places, None, routes=routes, kept=wanted_tables(config))


def wanted_tables(config: Respond) -> frozenset[int]:
    """Return the routing tables in which the configuration wants routes of ours."""
    wanted = {
        RT_TABLE_MAIN: config.route.enabled,
        config.bgp.table: config.bgp.enabled,
    }
    return frozenset(table for table, is_wanted in wanted.items() if is_wanted)


def _former(path: Path | None) -> list[HostsDeny]:
    """Return the places where an earlier configuration may have had lines."""
    good = last_good.load(path)
    return [*([] if good is None else [good.respond.hosts_deny]), HostsDeny()]


def _remove(
    places: Iterable[HostsDeny], address: str | None, *, routes: bool = True,
    kept: frozenset[int] = frozenset(),
) -> list[str]:  # fmt: skip
    """Remove lines at each place, and with `routes` the routes outside the tables `kept`. A place
    that fails does not keep the others from being cleaned."""
    removed, failures = [], []
    for place in {place.path: place for place in reversed(list(places))}.values():
        try:
            removed += _remove_lines(place, address)
        except ReactionFailed as error:
            failures.append(str(error))
    try:
        removed += remove_routes(address, kept) if routes else []
    except ReactionFailed as error:
        failures.append(str(error))
    if failures:
        raise ReactionFailed("; ".join(failures))
    return removed


def _remove_lines(place: HostsDeny, address: str | None) -> list[str]:
    section = HostsDenyFile(place.path, place.line)
    before = set(section.lines())
    if address is None:
        section.remove()
    elif before:
        section.apply({address: False})
    return sorted(f"{place.path}: {line}" for line in before - set(section.lines()))


def remove_routes(address: str | None, kept: frozenset[int] = frozenset()) -> list[str]:
    """Remove our routes to an address, or all (None), from every table but those `kept`; return a
    text about each."""
    removed = []
    with closing(Routes()) as every:
        tables = sorted(every.tables() - kept)
    for table in tables:
        place = "" if table == RT_TABLE_MAIN else f" in table {table}"
        with closing(Routes(table)) as routes:
            for network in sorted(routes.routes(), key=_order):
                if address is None or network == ip_network(address):
                    routes.remove(str(network))
                    removed.append(f"blackhole {network}{place}")
    return removed


def _order(network: IPv4Network | IPv6Network) -> tuple[int, bytes]:
    return network.version, network.network_address.packed
