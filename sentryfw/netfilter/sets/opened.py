"""Listed ports of which one source opened many, as the rules of chain `opened` noted them."""

from collections import defaultdict
from typing import Final, NamedTuple

from sentryfw.engine.model import Source, source_of_key
from sentryfw.netfilter.schema import BROAD_SETS, OPENED_TIMEOUT_S, TALKED_SETS
from sentryfw.netfilter.sets import elements
from sentryfw.netlink.socket import NfnetlinkSocket

_PORT_BYTES: Final = 4
"""A port in a concatenation: two bytes, padded to a register."""


class Opened(NamedTuple):
    """A listed TCP port that a source opened beyond the limit of chain `opened`."""

    port: int
    age: float
    """Seconds."""
    has_talked: bool
    """Whether the source sent data to it."""


def read_broad(netlink: NfnetlinkSocket) -> dict[Source, list[Opened]]:
    """Return what sources opened beyond the limit; usually nothing."""
    found: defaultdict[Source, list[Opened]] = defaultdict(list)
    for broad, talked in zip(BROAD_SETS, TALKED_SETS, strict=True):
        for key, age in _read(netlink, broad):
            has_talked = elements.get(netlink, talked, key) is not None
            port = int.from_bytes(key[-_PORT_BYTES:][:2])
            found[source_of_key(key[:-_PORT_BYTES])].append(Opened(port, age, has_talked))
    return dict(found)


def _read(netlink: NfnetlinkSocket, name: str) -> list[tuple[bytes, float]]:
    """Return the keys of a set, and the ages of their elements in seconds."""
    return [
        (element.key, OPENED_TIMEOUT_S - element.expires)
        for part in elements.dump(netlink, name)
        for element in part
    ]
