"""Collect the never-block sources of this host from its present state.

Own addresses, gateways (rtnetlink), resolvers (resolv.conf), the administrator's SSH
peers (from the environment that sshd sets, of this process or an ancestor), and the lists.
"""

import logging
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple, Self

from sentryfw.config.model import Config, Paths
from sentryfw.config.types import IPNetwork, matches, parse_address
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import ConfigError
from sentryfw.host import address_list, allow_file, dns_message
from sentryfw.host.private_files import read_as_owner
from sentryfw.netlink import message as nl
from sentryfw.netlink import route

log: Final = logging.getLogger("sentryfwd")

RESOLV_CONF: Final = (
    dns_message.RESOLV_CONF,
    Path("/run/systemd/resolve/resolv.conf"),  # the servers behind the stub at 127.0.0.53
)
MAX_ANCESTORS: Final = 32
OWN_ADDRESS: Final = "own address"
GATEWAY: Final = "gateway"
RESOLVER: Final = "resolver"
ALLOWLIST: Final = "allowlist"
"""The reason of networks that were added by `sentryfw allow`."""

ALWAYS: Final[tuple[IPNetwork, ...]] = (
    ip_network("127.0.0.0/8"),
    IPv6Network("::1"),
)
"""Loopback: never blocked by any configuration."""

Address = IPv4Address | IPv6Address


class Protected(NamedTuple):
    """A network that is never blocked, and the reason."""

    network: IPNetwork
    why: str


class ProtectedNetworks(NamedTuple):
    """The never-block sources of this host, with an index of their networks and of loopback's."""

    items: list[Protected]
    networks: NetworkIndex

    @classmethod
    def of(cls, items: Iterable[Protected]) -> Self:
        """Index these sources: 0.1 s for 100,000."""
        listed = list(items)
        return cls(listed, index_of(item.network for item in listed))


def index_of(networks: Iterable[IPNetwork]) -> NetworkIndex:
    """Return an index of these networks and of loopback's."""
    return NetworkIndex([*networks, *ALWAYS])


def never_block(
    config: Config, remembered: Iterable[Protected] = (), known: list[Address] | None = None
) -> list[Protected]:
    """Return the networks that the configuration never blocks, by the host's present state.

    `remembered`: SSH peers of earlier installs. `known`: the gateways, if no route has changed.
    """
    section = config.never_block
    for path in _read.keys() - section.files:  # a reload has taken it out
        _read.pop(path, None)
    found = [Protected(network, "never_block.addresses") for network in section.addresses]
    for path in section.files:
        found += _allowlist(path)
    found += allowed(config.paths)
    found += (Protected(_host(address), OWN_ADDRESS) for address in own_addresses())
    found += connected(section.interfaces)
    if section.gateways:
        hops = gateways() if known is None else known
        found += (Protected(_host(address), GATEWAY) for address in hops)
    if section.resolvers:
        found += (Protected(_host(address), RESOLVER) for address in resolvers())
    if section.ssh_peers:
        found += (Protected(_host(address), "ssh peer") for address in ssh_peers())
        found += remembered
    return list(dict.fromkeys(found))


def _allowlist(path: Path) -> tuple[Protected, ...]:
    """Return the networks of a file of [never_block] files.

    Raise ConfigError if it cannot be read: a typing error in its name must not block its sources.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError("never_block.files", [f"{path}: {error.strerror}"]) from None
    before, networks = _read.get(path, (b"", ()))
    if before != data:  # 7 us a line, and an addition to another list waits for it
        networks = tuple(_networks(address_list.parse(data), path, str(path)))
        _read[path] = data, networks
    return networks


def allowed(paths: Paths) -> Iterator[Protected]:
    """Yield the networks that `sentryfw allow` keeps, those of its names too; none where its file
    is missing.

    Raise ConfigError or NoPrivilege if the file cannot be read.
    """
    path = paths.allowlist
    try:
        data = read_as_owner(path, address_list.MAX_BYTES + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError("allowlist", [f"{path}: {error.strerror}"]) from None
    now, lines = datetime.now(UTC), address_list.lines(data)
    ended = {n for n, line in enumerate(lines, 1) if allow_file.has_ended(line, now)}
    parsed = address_list.parse(data, names=True)
    yield from _networks(parsed, path, ALLOWLIST, ended)
    names = [name for name, line in parsed.names or () if line not in ended]
    if names:
        from sentryfw.host import allowed_names  # noqa: PLC0415 - memory of those who use names

        answers = allowed_names.read(paths.allowlist_names)
        for name, network in allowed_names.networks(answers, names):
            yield Protected(network, f"{ALLOWLIST}: {name}")


def _networks(
    parsed: address_list.Allowlist, path: Path, why: str, ended: Collection[int] = ()
) -> Iterator[Protected]:
    """Yield the networks of a list, without those of lines that have ended."""
    known = _warned.get(path, frozenset())
    _warned[path] = frozenset(parsed.warnings)
    for warning in parsed.warnings:
        if warning not in known:
            log.warning("%s:%d: %s", path, *warning)
    yield from (
        Protected(entry.network, why) for entry in parsed.entries if entry.line not in ended
    )


_read: Final[dict[Path, tuple[bytes, tuple[Protected, ...]]]] = {}
"""The bytes of each file of [never_block] files, and the networks in them."""
_warned: Final[dict[Path, frozenset[address_list.Warned]]] = {}
"""The warnings of each list that were logged: the daemon reads the lists repeatedly."""


def remembered(rows: Iterable[tuple[str, str]]) -> list[Protected]:
    """Return networks from the ledger's rows (network, reason)."""
    return [Protected(ip_network(network), why) for network, why in rows]


def own_addresses() -> list[IPv4Address | IPv6Address]:
    """Return every address of this network namespace (RTM_GETADDR)."""
    found = []
    for body in route.dump(route.RTM_GETADDR, bytes(8)):  # struct ifaddrmsg
        fields = nl.attributes(body[8:])
        address = fields.get(route.IFA_LOCAL) or fields.get(route.IFA_ADDRESS)
        if address:
            found.append(ip_address(address))
    return found


def connected(names: Iterable[str]) -> Iterator[Protected]:
    """Yield the networks of the interfaces with these names ("ppp*" is a pattern).

    By their addresses, without fe80::/64, which every interface has.
    """
    patterns = list(names)
    if not patterns:
        return
    interfaces = {i: name for i, name in socket.if_nameindex() if matches(name, patterns)}
    for body in route.dump(route.RTM_GETADDR, bytes(8)):
        _, prefix, _, _, index = _IFADDRMSG.unpack_from(body)
        address = nl.attributes(body[8:]).get(route.IFA_ADDRESS)
        if index in interfaces and address and prefix:
            network = ip_network((address, prefix), strict=False)
            if not network.is_link_local:
                yield Protected(network, f"network of {interfaces[index]}")


_IFADDRMSG: Final = struct.Struct("=BBBBI")


def gateways() -> list[IPv4Address | IPv6Address]:
    """Return the next hops of all routes of all tables, of VRFs too, and of nexthop objects.

    A default route without one leads to the other end of a point-to-point link.
    """
    found: dict[Address, None] = {}
    links = set()
    for body in route.dump(route.RTM_GETROUTE, bytes(12)):  # struct rtmsg
        for hop in route.next_hops(body):
            if hop.gateway is not None:
                found[hop.gateway] = None
            elif body[1] == 0:  # rtm_dst_len
                links.add(hop.interface)
    for body in route.dump(route.RTM_GETNEXTHOP, bytes(8)):  # struct nhmsg
        gateway = route.nexthop_gateway(body)
        if gateway is not None:
            found[gateway] = None
    return [*found, *(_peers(links) if links else ())]


def _peers(links: set[int]) -> Iterator[Address]:
    """Yield the addresses at the other ends of point-to-point links."""
    for body in route.dump(route.RTM_GETADDR, bytes(8)):
        *_, index = _IFADDRMSG.unpack_from(body)
        fields = nl.attributes(body[8:])
        peer = fields.get(route.IFA_ADDRESS)
        if index in links and peer and fields.get(route.IFA_LOCAL, peer) != peer:
            yield ip_address(peer)


def resolvers(paths: Iterable[Path] = RESOLV_CONF) -> list[IPv4Address | IPv6Address]:
    """Return the nameservers of resolv.conf(5) that are not on loopback."""
    names = (name for path in paths for name in dns_message.nameservers(path))
    return [a for a in map(_address, names) if a is not None and not a.is_loopback]


def ssh_peers() -> list[IPv4Address | IPv6Address]:
    """Return the client of SSH_CONNECTION, from an ancestor where sudo has removed it."""
    for environment in _environments():
        words = environment.get("SSH_CONNECTION", environment.get("SSH_CLIENT", "")).split()
        address = _address(words[0]) if words else None
        if address is not None:
            return [address]
    return []


def _environments() -> Iterator[dict[str, str]]:
    yield dict(os.environ)
    process = os.getppid()
    for _ in range(MAX_ANCESTORS):
        if process <= 1:
            return
        try:
            raw = Path(f"/proc/{process}/environ").read_bytes()
            status = Path(f"/proc/{process}/stat").read_text(errors="replace")
        except OSError:  # ended, or of another user
            return
        pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
        yield {name: value for name, _, value in pairs}
        process = int(status.rpartition(")")[2].split()[1])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without its zone, an IPv4-mapped one as IPv4; None for other text."""
    try:
        return parse_address(text.partition("%")[0])
    except ValueError:
        return None


def _host(address: IPv4Address | IPv6Address) -> IPNetwork:
    return ip_network(address)
