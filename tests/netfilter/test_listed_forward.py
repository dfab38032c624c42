"""Elements of listed_forward: what was written, and no two of them overlap."""

from ipaddress import ip_address, ip_network
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config.forward import NUMBERS, ListedForward
from sentryfw.netfilter.listed_forward import elements

NETWORKS = ("198.18.0.0/30", "198.18.0.0/31", "198.18.0.1/32", "198.18.0.3/32", "198.18.0.8/32")


def _entry(**fields: Any) -> ListedForward:
    return ListedForward.model_validate(fields)


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([], []),
        (
            [_entry(to="192.0.2.0/24", tcp=[22, 80])],
            ["192.0.2.0/24 . 6 . 22", "192.0.2.0/24 . 6 . 80"],
        ),
        ([_entry(to="192.0.2.1", tcp=["5-9", "8-12", 13])], ["192.0.2.1/32 . 6 . 5-13"]),
        (
            [_entry(to="192.0.2.0/24", tcp=[80]), _entry(to="192.0.2.7", tcp=["79-81"], udp=[53])],
            [
                "192.0.2.0/24 . 6 . 80", "192.0.2.7/32 . 6 . 79", "192.0.2.7/32 . 6 . 81",
                "192.0.2.7/32 . 17 . 53",
            ],
        ),
        (
            [_entry(to="192.0.2.7", tcp=[80]), _entry(to="192.0.2.0/24", protocols=["tcp", 47])],
            ["192.0.2.0/24 . 6 . 0-65535", "192.0.2.0/24 . 47 . 0-65535"],
        ),
        ([_entry(to=["2001:db8::/48", "192.0.2.1"], sctp=[3868])], ["192.0.2.1/32 . 132 . 3868"]),
    ],
    ids=["none", "two-ports", "touching", "inner-has-more", "outer-has-all", "other-family"],
)  # fmt: skip
def test_elements_are_what_was_written(entries: list[ListedForward], wanted: list[str]) -> None:
    assert elements(entries, 4) == wanted


def _covers(element: str, address: str, protocol: int, port: int) -> bool:
    network, number, ports = element.split(" . ")
    first, _, last = ports.partition("-")
    inside = ip_address(address) in ip_network(network)
    return inside and int(number) == protocol and int(first) <= port <= int(last or first)


@given(
    st.lists(
        st.builds(
            lambda to, tcp: _entry(to=to, tcp=[f"{min(p)}-{max(p)}" for p in tcp]),
            st.sampled_from(NETWORKS),
            st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3),
        ),
        max_size=5,
    )
)
def test_each_listed_port_is_in_exactly_one_element(entries: list[ListedForward]) -> None:
    made = elements(entries, 4)
    assert all(a != b for a, b in combinations(made, 2))
    for last, port in product(range(10), range(10)):
        address = f"198.18.0.{last}"
        listed = any(
            ip_address(address) in entry.to[0]
            and any(low <= port <= high for low, high in entry.tcp)
            for entry in entries
        )
        assert sum(_covers(e, address, NUMBERS["tcp"], port) for e in made) == listed
