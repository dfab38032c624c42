"""Sources: the unit that is blocked, and its notation."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import address_text, parse_source, source_of, source_of_key, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY, Whole6
from support.forge import packed

ADDRESSES = st.ip_addresses().map(lambda address: address.packed)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - no bind
        ("2001:db8:a:b:1:2:3:4", "2001:db8:a:b::/64"),
        ("::1", "::/64"),
        ("fe80::1", "fe80::1"),
        ("fe80::1:2:3:4", "fe80::1:2:3:4"),
        ("febf:ffff::1", "febf:ffff::1"),
        ("fec0::1", "fec0::/64"),
        ("fe7f::1", "fe7f::/64"),
        ("ff80::1", "ff80::/64"),
    ],
)
def test_a_source_is_an_ipv4_address_a_64_or_a_link_local_address(address: str, text: str) -> None:
    assert source_text(source_of(packed(address))) == text


def test_neighbours_in_a_64_are_one_source() -> None:
    assert source_of(packed("2001:db8::1")) == source_of(packed("2001:db8::ffff:0:0:2"))
    assert source_of(packed("2001:db8::1")) != source_of(packed("2001:db8:0:1::1"))


def test_link_local_neighbours_are_two_sources() -> None:
    assert source_of(packed("fe80::1")) != source_of(packed("fe80::2"))


@given(ADDRESSES)
def test_what_is_written_is_read_back(address: bytes) -> None:
    source = source_of(address)
    assert parse_source(source_text(source)) == source


@given(ADDRESSES)
def test_an_address_belongs_to_its_source(address: bytes) -> None:
    assert parse_source(address_text(address), LINK_LOCAL_ONLY) == source_of(address)


@given(ADDRESSES)
def test_an_address_is_written_in_its_usual_notation(address: bytes) -> None:
    usual = IPv4Address if len(address) == 4 else IPv6Address
    assert usual(address_text(address)).packed == address


def test_host_bits_of_a_64_are_ignored() -> None:
    assert parse_source("2001:db8:a:b::1/64") == packed("2001:db8:a:b::")[:8]


@pytest.mark.parametrize(
    "text",
    ["", "host", "198.51.100", "198.51.100.7/32", "198.51.100.0/24", "2001:db8::/48",
     "2001:db8::1/128", "2001:db8::/65", "1.2.3.4:80", "2001:db8::g"],
)  # fmt: skip
def test_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are ipaddress'
        parse_source(text)


WHOLE = Whole6([IPv6Network("2001:db8:1:2::/64")])


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("2001:db8:1:2::5", "2001:db8:1:2::5"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::5", "2001:db8:1:3::/64"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_source_in_a_shared_prefix_is_the_whole_address(address: str, text: str) -> None:
    source = source_of(packed(address), WHOLE)
    assert source_text(source) == text
    assert parse_source(text) == source == parse_source(address, WHOLE)


def test_neighbours_in_a_shared_prefix_are_two_sources() -> None:
    one, other = (source_of(packed(f"2001:db8:1:2::{n}"), WHOLE) for n in (5, 6))
    assert one != other


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::5", "2001:db8:1:2::5"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_element_without_an_identifier_is_a_64(key: str, text: str) -> None:
    assert source_text(source_of_key(packed(key))) == text
