"""Rules that may give a packet another destination are found, others are not."""

import contextlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import MalformedMessage, attribute
from sentryfw.netlink.redirections import redirecting_table, redirects
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

OWN: Final = "own"


def _expression(name: str, data: bytes = b"") -> bytes:
    body = nl.text(nl.NFTA_EXPR_NAME, name) + nl.nested(nl.NFTA_EXPR_DATA, data)
    return nl.nested(nl.NFTA_LIST_ELEM, body)


def _target(name: str) -> bytes:
    return _expression("target", nl.text(nl.NFTA_TARGET_NAME, name))


@pytest.mark.parametrize("name", ["DNAT", "REDIRECT", "TPROXY", "NETMAP", "MASQUERADE", "unknown"])
def test_a_target_of_iptables_that_may_redirect_is_found(name: str) -> None:
    assert redirects(_expression("counter") + _target(name))


@pytest.mark.parametrize("name", ["LOG", "REJECT", "TCPMSS", "MARK", "NFLOG"])
def test_a_target_of_iptables_that_leaves_the_destination_is_not(name: str) -> None:
    assert not redirects(_target(name))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        redirects(data)
    with contextlib.suppress(MalformedMessage):
        redirects(attribute(nl.NFTA_LIST_ELEM, data))


@pytest.mark.netns
@pytest.mark.parametrize(
    ("family", "chain", "rule"),
    [
        ("ip", "type nat hook prerouting priority dstnat;", "tcp dport 80 dnat to 192.0.2.1"),
        ("inet", "type nat hook prerouting priority dstnat;", "tcp dport 80 redirect to :8080"),
        ("ip6", "type nat hook prerouting priority dstnat;", "tcp dport 80 dnat to 2001:db8::1"),
        ("ip", "type nat hook postrouting priority srcnat;", "masquerade"),
        ("ip", "type nat hook postrouting priority srcnat;", "snat to 192.0.2.1"),
        ("inet", "type filter hook prerouting priority mangle;", "tcp dport 80 tproxy to :8080"),
        ("ip", "type filter hook prerouting priority raw;", "ip daddr set 192.0.2.1"),
        ("ip6", "type filter hook prerouting priority raw;", "ip6 daddr set 2001:db8::1"),
        ("inet", "type filter hook prerouting priority raw;", "tcp dport 80 tcp dport set 81"),
        ("ip", "type nat hook output priority 0;", "tcp dport 80 redirect"),
    ],
)
def test_a_rule_of_nft_that_may_redirect_is_found(
    namespace: Namespace, family: str, chain: str, rule: str
) -> None:
    _load(namespace, f"table {family} other {{ chain c {{ {chain} }}; }}")
    assert _found(namespace) == ""
    _load(namespace, f"add rule {family} other c {rule}")
    assert _found(namespace) == "other"


@pytest.mark.netns
@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 22 accept",
        "ip dscp set cs1",
        "ip6 hoplimit set 3",
        "tcp option maxseg size set 1400",
        "meta mark set 5 log counter drop",
        "tcp flags set syn",
        "tcp dport { 1, 2 } reject",
    ],
)
def test_a_rule_of_nft_that_leaves_the_destination_is_not(namespace: Namespace, rule: str) -> None:
    _load(namespace, "table inet other { chain c { type filter hook input priority 0; }; }")
    _load(namespace, f"add rule inet other c {rule}")
    assert _found(namespace) == ""


@pytest.mark.netns
def test_our_own_table_does_not_count_and_one_of_its_name_in_another_family_does(
    namespace: Namespace,
) -> None:
    chain = "chain c { type nat hook prerouting priority 0; tcp dport 1 redirect to :2; }"
    _load(namespace, f"table inet {OWN} {{ {chain}; }}")
    assert _found(namespace) == ""
    _load(namespace, f"table ip {OWN} {{ {chain}; }}")
    assert _found(namespace) == OWN


def _load(namespace: Namespace, text: str) -> None:
    done = namespace.run("nft", text)
    assert done.returncode == 0, done.stderr


def _found(namespace: Namespace) -> str:
    def look() -> str:
        with NfnetlinkSocket() as netlink:
            return redirecting_table(netlink, OWN)

    return namespace.call(look)
