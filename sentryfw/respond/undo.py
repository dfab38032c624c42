"""Taking away what outlasts the daemon, where none runs: for `unblock` and `uninstall`."""

from ipaddress import ip_network

from sentryfw.config_respond import Respond
from sentryfw.respond.hosts_deny import HostsDeny
from sentryfw.respond.route import Routes


def undo(settings: Respond, address: str | None) -> list[str]:
    """Remove line and route of an address (None: of all), also where the configuration has
    forgotten them; what was removed. Failed if that cannot be done."""
    removed = []
    section = HostsDeny(settings.hosts_deny.path, settings.hosts_deny.line)
    before = set(section.lines())
    if before:
        section.sync(set()) if address is None else section.apply({address: False})
        removed += sorted(
            f"{settings.hosts_deny.path}: {line}" for line in before - set(section.lines())
        )
    routes = Routes()
    try:
        for network in routes.routes():
            if address is None or network == ip_network(address):
                routes.remove(str(network))
                removed.append(f"blackhole {network}")
    finally:
        routes.close()
    return removed
