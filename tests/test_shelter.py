"""Which blocks lie in networks that are never blocked from now on."""

from ipaddress import ip_address, ip_network

import pytest

from sentryfw.memory import Ends
from sentryfw.shelter import _inside


def _key(text: str) -> bytes:
    """As block4 and block6 hold it: an address, or a /64 with nothing behind it."""
    return ip_address(text).packed


BLOCKED = ["198.18.0.2", "198.18.1.2", "2001:2:0:1::", "fe80::9"]


@pytest.mark.parametrize(
    ("networks", "inside"),
    [
        (["198.18.0.2/32"], ["198.18.0.2"]),
        (["198.18.0.0/15"], ["198.18.0.2", "198.18.1.2"]),
        (["198.18.1.0/24", "198.18.0.2/32"], ["198.18.0.2", "198.18.1.2"]),
        (["203.0.113.0/24"], []),
        (["2001:2:0:1::/64"], ["2001:2:0:1::"]),
        (["2001:2::/32"], ["2001:2:0:1::"]),
        (["2001:2:0:1::7/128"], []),
        (["2001:2:0:1::/128"], []),
        (["2001:2:0:1::/120"], []),
        (["fe80::9/128"], ["fe80::9"]),
        (["fe80::8/128"], []),
    ],
    ids=[
        "the-address", "its-network", "both", "another", "the-prefix", "a-wider-one",
        "one-address-of-a-64", "its-first-address", "a-part-of-a-64", "link-local", "its-neighbour",
    ],
)  # fmt: skip
def test_a_block_is_lifted_where_all_of_its_source_is_spared(
    networks: list[str], inside: list[str]
) -> None:
    """A /64 of which one address is spared stays blocked: nft lets that one past."""
    blocked = Ends()
    for text in BLOCKED:
        blocked[_key(text)] = (600.0, 600.0)
    found = _inside(blocked, set(map(ip_network, networks)))
    assert found == sorted(_key(text) for text in inside)
