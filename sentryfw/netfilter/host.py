"""Whom this host depends on, from live state: the never-block sources.

Own addresses, default gateways (rtnetlink), resolvers (resolv.conf), the administrator's SSH
peers (the environment sshd sets, ours or an ancestor's).
"""

import logging
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import account, allowlist
from sentryfw import nlmsg as nl
from sentryfw.config import Config
from sentryfw.errors import ConfigError, NoPrivilege
from sentryfw.fields import matches
from sentryfw.netfilter.table import IPNetwork

log: Final = logging.getLogger("sentryfwd")

RECEIVE: Final = 1 << 16

RESOLV_CONF: Final = (
    Path("/etc/resolv.conf"),
    Path("/run/systemd/resolve/resolv.conf"),  # behind the stub resolver at 127.0.0.53
)
MAX_ANCESTORS: Final = 32
ALLOWLIST: Final = "allowlist"
"""Why somebody is never blocked whom `sentryfw allow` was told of."""


Address = IPv4Address | IPv6Address


class Protected(NamedTuple):
    """A network that is never blocked, and why."""

    network: IPNetwork
    why: str


def never_block(
    config: Config, remembered: Iterable[Protected] = (), known: list[Address] | None = None
) -> list[Protected]:
    """Everything the configuration wants protected, out of the host's state right now.
    `remembered`: SSH peers of earlier installs; `known`: gateways, where no route changed."""
    settings = config.never_block
    found = [Protected(network, "never_block.addresses") for network in settings.addresses]
    found += (listed for path in settings.files for listed in _allowlist(path))
    found += allowed(config.paths.allowlist)
    found += (Protected(_host(address), "own address") for address in own_addresses())
    found += connected(settings.interfaces)
    if settings.gateways:
        hops = gateways() if known is None else known
        found += (Protected(_host(address), "gateway") for address in hops)
    if settings.resolvers:
        found += (Protected(_host(address), "resolver") for address in resolvers())
    if settings.ssh_peers:
        found += (Protected(_host(address), "ssh peer") for address in ssh_peers())
        found += remembered
    return list(dict.fromkeys(found))


def _allowlist(path: Path) -> Iterator[Protected]:
    """The networks in a file of [never_block] files. ConfigError if it cannot be read: whoever
    stands in it must not be blocked for a slip in its name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError("never_block.files", [f"{path}: {error.strerror}"]) from None
    yield from _parsed(data, path, str(path))


def allowed(path: Path) -> Iterator[Protected]:
    """The networks that `sentryfw allow` keeps; none without a file. ConfigError as above. It
    lies in the daemon's directory: root reads it with the rights of the daemon's user."""
    try:
        with account.acting_as_owner(path.parent):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(allowlist.MAX_BYTES + 1)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from None
    except OSError as error:
        raise ConfigError("allowlist", [f"{path}: {error.strerror}"]) from None
    yield from _parsed(data, path, ALLOWLIST)


def _parsed(data: bytes, path: Path, why: str) -> Iterator[Protected]:
    parsed = allowlist.parse(data)
    known = _warned.get(path, frozenset())
    _warned[path] = frozenset(parsed.warnings)
    for warning in parsed.warnings:
        if warning not in known:
            log.warning("%s:%d: %s", path, *warning)
    yield from (Protected(entry.network, why) for entry in parsed.entries)


_warned: Final[dict[Path, frozenset[allowlist.Warned]]] = {}
"""What is wrong with each list and was said: the daemon reads them again and again."""


def remembered(rows: Iterable[tuple[str, str]]) -> list[Protected]:
    """Out of the ledger: (network, why)."""
    return [Protected(ip_network(network), why) for network, why in rows]


def own_addresses() -> list[IPv4Address | IPv6Address]:
    """Every address of every interface in this network namespace (RTM_GETADDR)."""
    found = []
    for body in dump(nl.RTM_GETADDR, bytes(8)):  # struct ifaddrmsg
        fields = nl.attributes(body[8:])
        address = fields.get(nl.IFA_LOCAL) or fields.get(nl.IFA_ADDRESS)
        if address:
            found.append(ip_address(address))
    return found


def connected(names: Iterable[str]) -> Iterator[Protected]:
    """The networks that interfaces of these names are connected to ("ppp*" is a pattern), by
    their addresses. Not fe80::/64, which every interface has."""
    patterns = list(names)
    if not patterns:
        return
    interfaces = {i: name for i, name in socket.if_nameindex() if matches(name, patterns)}
    for body in dump(nl.RTM_GETADDR, bytes(8)):
        _, prefix, _, _, index = _IFADDRMSG.unpack_from(body)
        address = nl.attributes(body[8:]).get(nl.IFA_ADDRESS)
        if index in interfaces and address and prefix:
            network = ip_network((address, prefix), strict=False)
            if not network.is_link_local:
                yield Protected(network, f"network of {interfaces[index]}")


_IFADDRMSG: Final = struct.Struct("=BBBBI")


def gateways() -> list[IPv4Address | IPv6Address]:
    """The next hops of every default route (RTM_GETROUTE)."""
    found = []
    for body in dump(nl.RTM_GETROUTE, bytes(12)):  # struct rtmsg
        if body[1] != 0:  # rtm_dst_len: only default routes
            continue
        fields = nl.attributes(body[12:])
        hops = [fields, *_next_hops(fields.get(nl.RTA_MULTIPATH, b""))]
        found += [ip_address(hop[nl.RTA_GATEWAY]) for hop in hops if nl.RTA_GATEWAY in hop]
    return found


def _next_hops(data: bytes) -> Iterator[dict[int, bytes]]:
    offset = 0
    while offset + 8 <= len(data):  # struct rtnexthop
        size = int.from_bytes(data[offset : offset + 2], "little" if _LITTLE else "big")
        if size < 8:
            return
        yield nl.attributes(data[offset + 8 : offset + size])
        offset += size + (-size & 3)


_LITTLE: Final = struct.pack("=H", 1) == b"\x01\x00"


def dump(kind: int, header: bytes) -> Iterator[bytes]:
    """The bodies of what rtnetlink answers to an RTM_GET* of everything."""
    request = struct.pack("=IHHII", 16 + len(header), kind, nl.NLM_F_REQUEST | nl.NLM_F_DUMP, 1, 0)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.send(request + header)
        while True:
            for reply in nl.messages(sock.recv(RECEIVE)):
                if reply.kind in (nl.NLMSG_DONE, nl.NLMSG_ERROR):
                    return
                yield reply.body


def resolvers(paths: Iterable[Path] = RESOLV_CONF) -> list[IPv4Address | IPv6Address]:
    """The nameserver lines of resolv.conf(5) that name another host."""
    found = []
    for path in paths:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:  # none there: none to protect
            continue
        for line in lines:
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                address = _address(words[1])
                if address is not None and not address.is_loopback:
                    found.append(address)
    return found


def ssh_peers() -> list[IPv4Address | IPv6Address]:
    """The client in SSH_CONNECTION: ours, or an ancestor's where sudo took it away."""
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
        except OSError:  # not ours to read, or gone
            return
        pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
        yield {name: value for name, _, value in pairs}
        process = int(status.rpartition(")")[2].split()[1])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address without its zone, IPv4-mapped ones as IPv4; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _host(address: IPv4Address | IPv6Address) -> IPNetwork:
    return ip_network(address)


ALWAYS: Final[tuple[IPNetwork, ...]] = (
    ip_network("127.0.0.0/8"),
    IPv6Network("::1"),
)
"""Loopback, whatever the configuration says."""
