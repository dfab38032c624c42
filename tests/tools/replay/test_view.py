"""The protected side: its networks, and tables of limited size."""

from ipaddress import ip_network

import pytest

from sentryfw.tools.replay.view import MAX_ADDRESSES, Addresses, Bounded
from support import forge


def test_a_bounded_table_forgets_its_oldest_entry() -> None:
    table: Bounded[int, str] = Bounded(2)
    for number in (1, 2, 3):
        table.keep(number, "x")
    assert list(table) == [2, 3]


@pytest.mark.parametrize(
    ("address", "inside"),
    [("192.0.2.1", True), ("192.0.2.2", False), ("198.51.100.200", True), ("198.51.101.1", False),
     ("2001:db8::1", True), ("2001:db9::1", False), ("::c000:201", False)],
)  # fmt: skip
def test_an_address_is_in_the_networks_or_not(address: str, *, inside: bool) -> None:
    texts = ("192.0.2.1", "198.51.100.0/24", "2001:db8::/32")
    addresses = Addresses([ip_network(text) for text in texts])
    assert addresses[forge.packed(address)] is inside
    assert addresses[forge.packed(address)] is inside


def test_the_memory_of_addresses_is_bounded() -> None:
    addresses = Addresses([ip_network("10.0.0.0/8")])
    for number in range(MAX_ADDRESSES + 10):
        assert not addresses[number.to_bytes(4)]
    assert len(addresses) == 10
