"""Addresses and durations of the command line."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from sentryfw.cli.arguments import address_or_none, parse_address, parse_timeout, subject_text
from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source
from sentryfw.errors import UsageError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("::ffff:203.0.113.7/128", "203.0.113.7"),
        ("fe80::/64", "fe80::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("fe80::1:2", "fe80::1:2"),
    ],
)
def test_a_source_is_an_address_or_a_64(text: str, shown: str) -> None:
    what = parse_address(text)
    assert isinstance(what, bytes)
    assert subject_text(what) == shown


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.77/24", IPv4Network("203.0.113.0/24")),
        ("::ffff:203.0.113.77/120", IPv4Network("203.0.113.0/24")),
        ("2001:db8::/32", IPv6Network("2001:db8::/32")),
        ("2001:db8::8/125", IPv6Network("2001:db8::8/125")),
    ],
)
def test_another_size_is_a_network(text: str, network: IPNetwork) -> None:
    what: Source | IPNetwork = parse_address(text)
    assert what == network
    assert subject_text(what) == str(network)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "'nowhere' is neither an address nor a network"),
        ("AS64500", "'AS64500' is an autonomous system, which is not blocked: no database knows"),
        ("0.0.0.0/0", "cannot be the address of a host"),
        ("224.0.0.1", "cannot be the address of a host"),
        ("127.0.0.1", "cannot be the address of a host"),
        ("255.255.255.255", "cannot be the address of a host"),
        ("::", "cannot be the address of a host"),
        ("::ffff:127.0.0.1", "cannot be the address of a host"),
        ("::ffff:0:0/96", "cannot be the address of a host"),
    ],
)
def test_an_address_that_no_host_can_have_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_address(text)


def test_a_timeout_is_seconds_and_an_error_names_the_option() -> None:
    assert parse_timeout("1h30m", "--timeout") == 5400
    with pytest.raises(UsageError, match="--since: "):
        parse_timeout("soon", "--since")


def test_a_network_is_not_an_address() -> None:
    assert address_or_none("192.0.2.1") == ip_address("192.0.2.1")
    assert address_or_none("::ffff:192.0.2.1") == ip_address("192.0.2.1")
    assert address_or_none("192.0.2.0/24") is None
