"""Blackhole routes in a routing table of their own, which a BGP daemon announces.

The daemon (bird, FRR) reads the kernel's table, and adds the community and its policy. No packet
of this host is routed by it. See docs/decisions.md: bgp-table.
"""

from collections.abc import Callable, Iterable
from typing import Final

from sentryfw.config.neighbours import Bgp
from sentryfw.errors import ReactionFailed
from sentryfw.respond.route import Network, Routes, canonical

Again = Callable[[str], None]
"""Asks for the route to an address once more."""
_REASON: Final = "{} routes are announced, [respond.bgp] max_routes: waits until one has ended"


class AnnouncedRoutes:
    """Our routes in the table that is announced, up to a number, for one thread."""

    def __init__(self, config: Bgp) -> None:
        self._routes = Routes(config.table)
        self._limit = config.max_routes
        self._there: set[Network] | None = None
        """The routes in the kernel; None: not read yet, or after a failure."""
        self._waiting: dict[Network, None] = {}
        """Without a route for lack of room, in the order in which they were asked for."""
        self.again: Again = lambda _: None

    def close(self) -> None:
        """Close the socket, if it is open."""
        self._routes.close()

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove routes; return those without room and those that the kernel refused."""
        there, refused = self._read(), {}
        for address, present in sorted(changes.items(), key=_is_added):
            network = canonical(address)
            self._waiting.pop(network, None)
            if present and network not in there and len(there) >= self._limit:
                self._waiting[network] = None
                refused[address] = _REASON.format(self._limit)
                continue
            try:
                self._make(network, present=present)
            except ReactionFailed as error:
                refused[address] = str(error)
        self._ask_again()
        return refused

    def sync(self, addresses: set[str]) -> None:
        """Make our routes those of these addresses, as far as there is room: routes that are there
        stay. Raise ReactionFailed if that fails."""
        self._there = None
        wanted, there = {canonical(address) for address in addresses}, self._read()
        ordered = sorted(wanted, key=lambda network: (network not in there, str(network)))
        chosen = ordered[: self._limit]
        for network in there.difference(chosen):
            self._make(network, present=False)
        for network in chosen:
            self._make(network, present=True)
        self._waiting = dict.fromkeys(ordered[self._limit :])

    def _make(self, network: Network, *, present: bool) -> None:
        there = self._read()
        if present and network not in there:
            self._routes.add(str(network))
            there.add(network)
        elif not present:
            self._routes.remove(str(network))
            there.discard(network)

    def _read(self) -> set[Network]:
        if self._there is None:
            self._there = self._routes.routes()
        return self._there

    def _ask_again(self) -> None:
        """Ask for as many of those that wait as there is room for."""
        room = self._limit - len(self._read())
        for network in _first(self._waiting, room):
            self.again(_text_of(network))


def _text_of(network: Network) -> str:
    """Return a network as decisions name sources: one IPv4 address has no prefix length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _is_added(change: tuple[str, bool]) -> bool:
    """Order changes: what is removed comes first, and makes room."""
    return change[1]


def _first(networks: Iterable[Network], count: int) -> list[Network]:
    return [network for network, _ in zip(networks, range(max(0, count)), strict=False)]
