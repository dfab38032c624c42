"""Types of the configuration's values: durations, ports, networks, interfaces."""

import itertools
from ipaddress import IPv4Address, collapse_addresses, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config import parse
from sentryfw.config.types import is_within, merged, parse_address, parse_duration, parse_network
from sentryfw.errors import ConfigError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
TEN_YEARS = 315_360_000


def _faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "test.toml")
    return caught.value.faults


# --- durations


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90s", 90), ("5m", 300), ("4h", 14400), ("1d", 86400), ("2w", 1209600), ("1h30m", 5400),
     (" 5m ", 300), ("45", 45), (45, 45), (0.5, 0.5), (TEN_YEARS, TEN_YEARS)],
)  # fmt: skip
def test_durations(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "m", "5 m", "5M", "-5m", "5.5m", "5m3", "1h,30m", "0", "0s", 0, -1, TEN_YEARS + 1, "522w",
     float("nan"), float("inf"), True, None, [5], {"s": 5}],
    ids=repr,
)  # fmt: skip
def test_other_text_is_not_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|out of range"):
        parse_duration(value)


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("smhdw")), min_size=1, max_size=6))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    seconds = sum(number * UNITS[unit] for number, unit in parts)
    if 0 < seconds <= TEN_YEARS:
        written = parse(f'[detect]\nwindow = "{text}"'.encode(), "test.toml")
        assert written.detect.window == seconds
    else:
        with pytest.raises(ValueError, match="out of range"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::FFFF:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:c000:201", "192.0.2.1/32"),
        ("0:0:0:0:0:ffff:c000:0201/128", "192.0.2.1/32"),
        ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),  # holds other addresses, too
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201/128"),
        ("::192.0.2.1", "::c000:201/128"),
        ("::ffff:0:192.0.2.1", "::ffff:0:c000:201/128"),
        (" 2001:db8::1/64 ", "2001:db8::/64"),
    ],
)
def test_a_mapped_address_is_the_ipv4_address_and_nothing_else_is(text: str, network: str) -> None:
    assert str(parse_network(text)) == network
    written = parse(f'[never_block]\naddresses = ["{text}"]'.encode(), "test.toml")
    assert [str(found) for found in written.never_block.addresses] == [network]
    if "/" not in text:
        assert str(parse_address(text)) == network.partition("/")[0]


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_every_mapped_network_is_the_ipv4_network(address: IPv4Address, bits: int) -> None:
    for text in (f"::ffff:{address}", f"::FFFF:{int(address) >> 16:X}:{int(address) & 0xFFFF:x}"):
        assert parse_network(f"{text}/{96 + bits}") == ip_network(
            (int(address), bits), strict=False
        )
        assert parse_address(text) == address


@given(st.integers(1, TEN_YEARS))
def test_seconds_are_read_back_from_every_notation(seconds: int) -> None:
    days, rest = divmod(seconds, 86400)
    assert parse_duration(f"{days}d{rest // 60}m{rest % 60}s") == seconds
    assert parse_duration(str(seconds)) == parse_duration(seconds) == seconds


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 < seconds <= TEN_YEARS


@pytest.mark.parametrize(
    "value",
    [f"1{'0' * 400}", f"1{'0' * 5000}", f'"1{"0" * 400}s"', f'"1{"0" * 5000}s"'],
    ids=["number-400", "number-5000", "text-400", "text-5000"],
)
def test_a_number_of_any_length_is_a_fault_and_no_crash(value: str) -> None:
    assert len(_faults(f"[detect]\nwindow = {value}")) == 1


# --- ports, networks, interfaces


@pytest.mark.parametrize(
    ("written", "ports"),
    [("22", (22, 22)), ('"22"', (22, 22)), ('"6000-6010"', (6000, 6010)), ("0", (0, 0)),
     ('"6000 - 6010"', (6000, 6010)), ('"0-65535"', (0, 65535))],
)  # fmt: skip
def test_ports(written: str, ports: tuple[int, int]) -> None:
    watch = parse(f"[watch]\nlisted_tcp = [{written}]".encode(), "test.toml").watch
    assert watch.listed_tcp == (ports,)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_ports_are_listed_by_protocol(protocol: str) -> None:
    watch = parse(f'[watch]\nlisted_{protocol} = [7, "9-11"]'.encode(), "test.toml").watch
    listed = {"tcp": watch.listed_tcp, "udp": watch.listed_udp, "sctp": watch.listed_sctp}
    assert listed.pop(protocol) == ((7, 7), (9, 11))
    assert set(listed.values()) == {()}


@pytest.mark.parametrize(
    "written",
    ["65536", "-1", "22.5", "true", '""', '"-"', '"22-"', '"-22"', '"22 80"', '"22,80"', '"ssh"',
     '"30-20"', '"1-2-3"', '"1-65536"', "[22]"],
)  # fmt: skip
def test_other_text_is_not_a_port(written: str) -> None:
    (fault,) = _faults(f"[watch]\nlisted_udp = [80, {written}]")
    assert fault.startswith("watch.listed_udp.1: ")


@pytest.mark.parametrize(
    ("written", "network"),
    [("192.0.2.1", "192.0.2.1/32"), ("192.0.2.77/24", "192.0.2.0/24"),
     ("2001:db8::1", "2001:db8::1/128"), ("2001:db8::1/32", "2001:db8::/32"),
     (" 192.0.2.1 ", "192.0.2.1/32"), ("192.0.2.0/255.255.255.0", "192.0.2.0/24")],
)  # fmt: skip
def test_host_bits_of_a_network_are_ignored(written: str, network: str) -> None:
    text = f'[never_block]\naddresses = ["{written}"]'
    assert parse(text.encode(), "test.toml").never_block.addresses == (ip_network(network),)


@pytest.mark.parametrize("written", ['""', '"host"', '"192.0.2"', '"192.0.2.1/33"', "1", "true"])
def test_other_text_is_not_a_network(written: str) -> None:
    (fault,) = _faults(f"[never_block]\naddresses = [{written}]")
    assert fault.startswith("never_block.addresses.0: ")


@pytest.mark.parametrize(
    "name", ["eth0", "ppp*", "br-lan", "eth0.100", "veth@if3", "a" * 15, "a" * 14 + "*"]
)
def test_interfaces(name: str) -> None:
    text = f'[watch]\ninterfaces = ["{name}"]'
    assert parse(text.encode(), "test.toml").watch.interfaces == (name,)


@pytest.mark.parametrize(
    "name",
    ["", "*", "a b", "a/b", "a" * 16, "a" * 15 + "*", "eth0;", "-eth0", 'e\\"', "e\\n", "et*h",
     "eth0 }"],
)  # fmt: skip
def test_other_text_is_not_an_interface(name: str) -> None:
    (fault,) = _faults(f'[watch]\ninterfaces = ["{name}"]')
    assert fault.startswith("watch.interfaces.0: ")


# --- ranges


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)), max_size=20))
def test_merged_ranges_are_disjoint_and_cover_the_same_addresses(
    items: list[tuple[int, int]],
) -> None:
    networks = [ip_network((address, bits), strict=False) for address, bits in items]
    found = merged((int(network[0]), int(network[-1])) for network in networks)
    ends = [end for interval in found for end in interval]
    assert ends == sorted(ends)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(found))
    collapsed = collapse_addresses(networks)
    assert sum(last - first + 1 for first, last in found) == sum(n.num_addresses for n in collapsed)


@pytest.mark.parametrize(
    ("inner", "outer", "is_inside"),
    [
        ("198.18.0.0/24", "198.18.0.0/15", True),
        ("198.18.0.0/24", "198.18.0.0/24", True),
        ("198.18.0.0/15", "198.18.0.0/24", False),
        ("::/96", "0.0.0.0/0", False),
    ],
)
def test_a_network_within_another(inner: str, outer: str, *, is_inside: bool) -> None:
    assert is_within(ip_network(inner), ip_network(outer)) is is_inside
