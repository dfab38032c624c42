"""The hosts of a capture that look scanned, of the services that were asked without an answer.

They are the hosts of one network, of which one source asked one host for MIN_PORTS services, or
MIN_HOSTS hosts for one; or those, in no network in common, that one source asked for one service.
A client with many unanswered flows to unrelated servers scans none of them, also where a name has
several addresses in one network.

See docs/decisions.md: replay-guess.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sentryfw.engine.packet import UDP
from sentryfw.tools.replay.view import Addresses, Network

MIN_PORTS: Final = 3
"""Ports of one host that one source asked without an answer: no finding needs fewer."""
UDP_SHARE: Final = 0.5
"""Share of a port that was asked by UDP: a datagram may be lost, or need no answer."""
MIN_HOSTS: Final = 4
"""Hosts of one network that one source asked for one port without an answer, not by UDP: games and
calls ask many. Private addresses that are asked from the Internet are one network, and all of its
ports count."""
MIN_SWEEP: Final = 20
"""Hosts in no network in common, or asked by UDP; ports of a resolver."""
MIN_SWEEP_SHARE: Final = 4
"""Hosts that do not answer a sweep, for each that does. With UDP, unanswered questions of a sweep,
for each other one of its source: a peer-to-peer client asks many ports."""

MIN_UNRELATED: Final = 4
"""Other networks in which a client asked public hosts for the same port in vain: the Internet does
not answer it. MIN_SWEEP is for the source that scans them."""

DNS_PORT: Final = 53

Asked = tuple[bytes, bytes, int, int]
"""Source, destination, IP protocol number, port (or ICMP type)."""
Question = tuple[bytes, int, int]
"""Source, IP protocol number, port."""
Pair = tuple[bytes, bytes]
"""Source, and the network of what it asked."""
Sweep = tuple[Pair, int, int]
"""Source and network, IP protocol number, port."""
INSIDE: Final = b""
"""Network of all private addresses, where the source is not one."""


class Scanned:
    """The hosts that look scanned, of the services that were asked and did not answer."""

    def __init__(
        self,
        asked: list[Asked],
        answered: Iterable[Asked],
        whole6: Iterable[Network] = (),
    ) -> None:
        """`whole6`: the IPv6 networks in which a source is a whole address (NAT64)."""
        self._whole6 = Addresses(whole6)
        self._asked = asked
        self._answers: Counter[Question] = Counter()
        self._answering: dict[Pair, set[bytes]] = defaultdict(set)
        self.resolvers: set[bytes] = set()
        """Hosts that answered a DNS query."""
        for source, target, protocol, port in answered:
            self._answers[source, protocol, port] += 1
            self._answering[source, self._network_of(source, target)].add(target)
            if port == DNS_PORT:
                self.resolvers.add(target)

    def addresses(self) -> set[bytes]:
        """Return the hosts of the widest sweep, or of the most asked network of each family."""
        sweep = self._sweep()
        found: set[bytes] = set()
        for size in (4, 16):
            best, hosts = self._network(size)
            if best >= len(sweep):
                found |= hosts
        return found or sweep

    def _sweep(self) -> set[bytes]:
        swept: dict[Question, set[bytes]] = defaultdict(set)
        asked: Counter[bytes] = Counter()
        for source, target, protocol, port in self._asked:
            swept[source, protocol, port].add(target)
            asked[source] += 1
        wide = [
            hosts
            for question, hosts in swept.items()
            if len(hosts) >= max(MIN_SWEEP, MIN_SWEEP_SHARE * self._answers[question])
            and (
                question[1] != UDP
                or len(hosts) >= MIN_SWEEP_SHARE * (asked[question[0]] - len(hosts))
            )
        ]
        return max(wide, key=len, default=set())

    def _network(self, size: int) -> tuple[int, set[bytes]]:
        """Return the number of services that one source asked in one network, and their hosts."""
        ports: dict[tuple[bytes, bytes], float] = defaultdict(float)
        weight: Counter[Pair] = Counter()
        by_port: dict[Sweep, set[bytes]] = defaultdict(set)
        by_pair: dict[Pair, set[bytes]] = defaultdict(set)
        for source, target, protocol, port in self._asked:
            if len(target) == size:
                pair = source, self._network_of(source, target)
                ports[source, target] += UDP_SHARE if protocol == UDP else 1
                weight[pair] += 1
                by_pair[pair].add(target)
                by_port[pair, protocol, port].add(target)
        likely = {
            (source, self._network_of(source, target))
            for (source, target), count in ports.items()
            if count >= (MIN_SWEEP if target in self.resolvers else MIN_PORTS)
        }
        likely.update(_swept(by_port))
        likely.update(
            pair
            for pair, targets in by_pair.items()
            if pair[1] == INSIDE and len(targets) >= MIN_HOSTS
        )
        top = max(likely, key=weight.__getitem__, default=None)
        if top is None:
            return 0, set()
        scanners = Counter({source: weight[source, net] for source, net in likely})
        return weight[top], {
            target
            for source, network in likely
            if network == top[1]
            for target in by_pair[source, network] | self._answering[source, network]
            if (target not in self.resolvers or ports[source, target] >= MIN_SWEEP)
            and ports[source, target] >= scanners[target]
        }

    def _network_of(self, source: bytes, target: bytes) -> bytes:
        """Return the network that a host is most likely in: IPv4 /24, also behind NAT64 (RFC 6052,
        section 2.2: a /120), IPv6 /64; INSIDE."""
        if _is_private(target) and not _is_private(source):
            return INSIDE
        if len(target) == 4:
            return target[:3]
        return target[:15] if self._whole6[target] else target[:8]


def _swept(by_port: Mapping[Sweep, set[bytes]]) -> Iterator[Pair]:
    """Yield the sources and networks of which MIN_HOSTS were asked for one port."""
    public = {sweep for sweep, hosts in by_port.items() if not _is_private(next(iter(hosts)))}
    networks = Counter((source, protocol, port) for (source, _), protocol, port in public)
    for sweep, hosts in by_port.items():
        pair, protocol, port = sweep
        if sweep in public and networks[pair[0], protocol, port] > MIN_UNRELATED:
            continue
        if len(hosts) >= (MIN_SWEEP if protocol == UDP else MIN_HOSTS):
            yield pair


def _is_private(address: bytes) -> bool:
    """Return whether an address is of a site (RFC 1918, RFC 4193) or of a link."""
    if len(address) == 16:
        return address[0] & 0xFE == 0xFC or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
    return (
        address[0] == 10
        or (address[0] == 172 and address[1] & 0xF0 == 16)
        or address[:2] in (b"\xc0\xa8", b"\xa9\xfe")
    )
