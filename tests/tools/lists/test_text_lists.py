"""Lists in text: one address a line, sets of nft."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.tools.export.blocks import ExportedBlock
from sentryfw.tools.export.firewall import nft
from sentryfw.tools.lists.entries import ParsedList
from sentryfw.tools.lists.text_lists import nft_list, plain_list


def _texts(parsed: ParsedList) -> list[str]:
    return [str(entry.network) for entry in parsed.entries]


def test_a_plain_list_with_comments() -> None:
    text = "# head\n\n192.0.2.1\n 198.51.100.0/24 ; SBL1\n2001:db8::/32 # x\r\n; end\n"
    parsed = plain_list(text)
    assert _texts(parsed) == ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]
    assert [entry.place for entry in parsed.entries] == ["line 3", "line 4", "line 5"]
    assert (parsed.bad, parsed.left_out) == ([], {})


@pytest.mark.parametrize("line", ["192.0.2.300", "example.org", "192.0.2.1 192.0.2.2", "1"])
def test_a_bad_line_has_its_number(line: str) -> None:
    [bad] = plain_list(f"192.0.2.1\n{line}\n192.0.2.2\n").bad
    assert bad.place == "line 2"
    assert repr(line)[1:-1] in bad.fault


NFT = """table inet filter {
    set one { # {
        type ipv4_addr
        flags interval,timeout
        elements = { 192.0.2.1 timeout 1h expires 59m58s123ms,
                 198.51.100.0/24 counter packets 3 bytes 9 comment "a, b } c",
                 203.0.113.4-203.0.113.7 timeout 1d2h }
    }
    set two {
        type ipv6_addr
        elements = { 2001:db8::1 }
    }
}
"""


def test_sets_of_nft_with_times_comments_and_ranges() -> None:
    parsed = nft_list(NFT)
    assert [(e.place, str(e.network), e.seconds) for e in parsed.entries] == [
        ("line 5", "192.0.2.1/32", 3598.123), ("line 6", "198.51.100.0/24", None),
        ("line 7", "203.0.113.4/30", 93600), ("line 11", "2001:db8::1/128", None),
    ]  # fmt: skip
    assert parsed.bad == []


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ("table x", "line 1", "there is no"),
        ("\nelements = { 192.0.2.1", "line 2", "no closing }"),
        ("elements = { 192.0.2.1,\nssh }", "line 2", "'ssh' is neither"),
        ("elements = { 192.0.2.9-192.0.2.1 }", "line 1", "not a range"),
        ("elements = { 192.0.2.9-2001:db8:: }", "line 1", "not a range"),
        ("elements = { 192.0.2.1 timeout soon }", "line 1", "not a time"),
    ],
)
def test_faults_of_sets(text: str, place: str, fault: str) -> None:
    [bad] = nft_list(text).bad
    assert bad.place == place
    assert fault in bad.fault


def test_an_export_of_ours_is_read_back() -> None:
    blocks = [
        ExportedBlock("192.0.2.1", 4, 60.0, 0, None),
        ExportedBlock("192.0.3.0/24", 4, 0.0, 0, None),
        ExportedBlock("2001:db8::/64", 6, 60.0, 0, None),
    ]  # fmt: skip
    parsed = nft_list("".join(nft(blocks)))
    assert [(str(e.network), e.seconds) for e in parsed.entries] == [
        ("192.0.2.1/32", 60), ("192.0.3.0/24", None), ("2001:db8::/64", 60),
    ]  # fmt: skip
    assert parsed.bad == []


HOSTS = st.ip_addresses().filter(
    lambda a: not (a.is_multicast or a.is_loopback or a.is_unspecified or a.packed[0] in (0, 255))
)


@given(st.lists(HOSTS))
def test_every_address_is_read_back(hosts: list[IPv4Address | IPv6Address]) -> None:
    expected = [getattr(host, "ipv4_mapped", None) or host for host in hosts]
    parsed = plain_list("".join(f"{host}\n" for host in hosts))
    counted = len(parsed.entries) + sum(parsed.left_out.values())
    assert (parsed.bad, counted) == ([], len(hosts))
    if not parsed.left_out:
        assert [entry.network.network_address for entry in parsed.entries] == expected
    listed = nft_list("elements = { " + ", ".join(map(str, hosts)) + " }")
    assert [e.network for e in listed.entries] == [e.network for e in parsed.entries]


@given(st.text())
def test_no_text_raises(text: str) -> None:
    for parsed in (plain_list(text), nft_list(text), nft_list(f"elements = {{ {text} }}")):
        assert all(ip_address(entry.network.network_address) for entry in parsed.entries)
