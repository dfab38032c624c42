"""Networks that a list of networks covers."""

from ipaddress import ip_network

import pytest

from sentryfw.cli.allow_apply import Ranges

LISTED = ("192.0.2.0/25", "192.0.2.128/25", "198.51.100.7", "2001:db8::/32")


@pytest.mark.parametrize(
    ("text", "is_covered"),
    [
        ("192.0.2.0/24", True), ("192.0.2.200", True), ("192.0.2.0/23", False),
        ("198.51.100.7", True), ("198.51.100.6/31", False), ("2001:db8:1::/48", True),
        ("::/0", False), ("0.0.0.0/0", False),
    ],
)  # fmt: skip
def test_what_touches_is_joined(text: str, is_covered: bool) -> None:  # noqa: FBT001
    assert Ranges(map(ip_network, LISTED)).covers(ip_network(text)) is is_covered
