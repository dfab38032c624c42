"""Networks that were removed from the list and have no other reason."""

from ipaddress import ip_network

import pytest

from sentryfw.cli import allow_apply
from sentryfw.cli.allow_apply import Change
from sentryfw.config.model import Config
from sentryfw.host.protected import Protected

LISTED = ("192.0.2.0/25", "192.0.2.128/25", "198.51.100.7", "2001:db8::/32")


@pytest.mark.parametrize(
    ("text", "is_covered"),
    [
        ("192.0.2.0/24", True), ("192.0.2.200", True), ("192.0.2.0/23", False),
        ("198.51.100.7", True), ("198.51.100.6/31", False), ("2001:db8:1::/48", True),
        ("::/0", False), ("0.0.0.0/0", False),
    ],
)  # fmt: skip
def test_what_touches_is_joined(
    text: str,
    is_covered: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = [Protected(ip_network(network), "listed") for network in LISTED]
    monkeypatch.setattr(allow_apply, "all_protected", lambda _: listed)
    unwanted = allow_apply._unwanted(Config(), Change(removed=[ip_network(text)]))
    assert (unwanted == []) is is_covered
