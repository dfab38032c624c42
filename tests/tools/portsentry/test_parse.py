"""PortSentry's files: read as they were meant, never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config.types import IPAddress, unmapped
from sentryfw.tools.portsentry import parse
from sentryfw.tools.portsentry.parse import OPTIONS, parse_hosts, parse_ports, parse_settings

LINES = st.text(alphabet="ABCDEFGHIKLMNOPRSTUV_=\"' 0123456789,-#$\r\n\t/.", max_size=300)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_known(name: str) -> None:
    found = parse_settings(f'{name}="1"\n'.encode())
    assert found.options[name].value == "1"
    assert found.warnings == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('SCAN_TRIGGER="2"', "2"),
        ('SCAN_TRIGGER = "2"', "2"),
        ('\tSCAN_TRIGGER\t=\t"2"', "2"),
        ('SCAN_TRIGGER=" 2 "', "2"),
        ('SCAN_TRIGGER=""', ""),
    ],
)
def test_a_correct_line_has_no_warning(line: str, value: str) -> None:
    found = parse_settings(f"{line}\n".encode())
    assert found.options["SCAN_TRIGGER"].value == value
    assert found.warnings == []


@pytest.mark.parametrize(
    ("line", "value", "said"),
    [
        ("SCAN_TRIGGER=2", "2", "no quotes"),
        ("SCAN_TRIGGER=2 # two", "2", "no quotes"),
        ('SCAN_TRIGGER="2" # two', "2", "the comment after it is ignored"),
        ('SCAN_TRIGGER="2', "2", 'no closing "'),
        ('SCAN_TRIGGER="2" 3', "2", "'3' after it is ignored"),
        ('SCAN_TRIGGER "2"', "2", "no '='"),
        ('scan_trigger="2"', "2", "written 'scan_trigger'"),
        ('SCAN_T="2"', "2", "written 'SCAN_T'"),
        ("SCAN_TRIGGER=\u201c2\u201d", "2", ""),
        ("SCAN_TRIGGER='2'", "2", ""),
    ],
)
def test_a_faulty_line_is_read_as_meant_with_a_warning(line: str, value: str, said: str) -> None:
    found = parse_settings(f"# conf\n{line}\n".encode())
    assert found.options["SCAN_TRIGGER"] == (value, 2)
    if said:
        (warning,) = found.warnings
        assert warning.line == 2
        assert said in warning.text


def test_a_prefix_is_the_option_that_portsentry_2_takes_it_for() -> None:
    assert set(parse_settings(b'T="11"\n').options) == {"TCP_PORTS"}
    assert set(parse_settings(b'KILL_R="x"\n').options) == {"KILL_ROUTE"}
    assert set(parse_settings(b'BLOCK="1"\n').options) == {"BLOCK_TCP"}


@pytest.mark.parametrize("line", ["hello world", "TCPPORTS=1", "= 3", '"1"', "T hat", "\u2603"])
def test_garbage_is_named_and_the_rest_is_read(line: str) -> None:
    found = parse_settings(f'{line}\nSCAN_TRIGGER="2"\n'.encode())
    assert found.options["SCAN_TRIGGER"].line == 2
    assert [warning.line for warning in found.warnings] == [1]


def test_dos_lines_and_a_missing_newline_are_named_once() -> None:
    found = parse_settings(b'SCAN_TRIGGER="2"\r\nBLOCK_TCP="1"\r\nBLOCK_UDP="0"')
    assert {name: option.value for name, option in found.options.items()} == {
        "SCAN_TRIGGER": "2",
        "BLOCK_TCP": "1",
        "BLOCK_UDP": "0",
    }
    assert [warning.line for warning in found.warnings] == [1, 3]


@pytest.mark.parametrize(
    ("text", "generation", "value"),
    [
        (b'ADVANCED_PORTS_TCP="9"\nTCP_PORTS="1"\nTCP_PORTS="2"\n', 1, "1"),
        (b'# PortSentry 2.0\nTCP_PORTS="1"\nTCP_PORTS="2"\n', 2, "2"),
        (b'TCP_PORTS="1-2"\nTCP_PORTS="2"\n', 2, "2"),
        (b'TCP_PORTS="1"\nTCP_PORTS="2"\n', 1, "1"),
    ],
    ids=["1.x-advanced", "2.x-says-so", "2.x-ranges", "1.x"],
)
def test_a_repeated_option_is_read_as_its_generation_does(
    text: bytes, generation: int, value: str
) -> None:
    found = parse_settings(text)
    assert found.generation == generation
    assert found.options["TCP_PORTS"].value == value
    assert any("given twice" in warning.text for warning in found.warnings)


@pytest.mark.parametrize(
    ("text", "ports", "said"),
    [
        ("1,11,15", [(1, 1), (11, 11), (15, 15)], []),
        ("1,5-11", [(1, 1), (5, 11)], []),
        ("1, 11 ,15,", [(1, 1), (11, 11), (15, 15)], []),
        ("1 11", [(1, 1), (11, 11)], []),
        ("0,65535", [(0, 0), (65535, 65535)], []),
        ("11-5", [(5, 11)], ["'11-5' runs backwards: read as 5-11"]),
        ("abc,1", [(1, 1)], ["'abc' is not a port: left out"]),
        ("70000,1", [(1, 1)], ["'70000' is not a port: left out"]),
        ("", [], []),
    ],
)
def test_port_lists(text: str, ports: list[tuple[int, int]], said: list[str]) -> None:
    assert parse_ports(text) == (ports, said)


def test_the_65th_port_is_not_lost() -> None:
    ports, said = parse_ports(",".join(map(str, range(1, 101))))
    assert len(ports) == 100
    assert said == []


@pytest.mark.parametrize(
    ("data", "hosts"),
    [
        (b"1169220000 - 01/19/2007 12:00:00 Host: evil.example/192.0.2.7 Port: 11 TCP Blocked\n",
         [("192.0.2.7", 11, "TCP")]),
        (b"1169220000 - 01/19/2007 12:00:00 Host: 192.0.2.7/192.0.2.7 Port: 7 UDP Blocked\n",
         [("192.0.2.7", 7, "UDP")]),
        (b"2026-02-22T10:00:00.000+0000 Scan from: [2001:db8::7] (x) protocol: [TCP] port: [11]",
         [("2001:db8::7", 11, "TCP")]),
        (b"2026-02-22T10:00 Scan from: [::ffff:192.0.2.7] (x) protocol: [TCP] port: [11]",
         [("192.0.2.7", 11, "TCP")]),
        (bytes.fromhex("0a00" + "00" * 10 + "ffffc0000207"), [("192.0.2.7", None, "")]),
        (bytes.fromhex("02000a4d0001"), [("10.77.0.1", None, "")]),
        (bytes.fromhex("00020a4d0001"), [("10.77.0.1", None, "")]),
        (bytes.fromhex("020a4d0001"), [("10.77.0.1", None, "")]),
        (bytes.fromhex("02000a4d00010a00fd7700000000000000000000000000010200c0000207"),
         [("10.77.0.1", None, ""), ("fd77::1", None, ""), ("192.0.2.7", None, "")]),
        (b"", []),
    ],
    ids=["1.x", "1.x-udp", "2.x-history", "2.x-mapped", "2.x-linux-mapped", "2.x-linux",
         "2.x-big-endian", "2.x-bsd", "2.x-mixed",
         "empty"],
)  # fmt: skip
def test_hosts(data: bytes, hosts: list[tuple[str, int | None, str]]) -> None:
    found, warnings = parse_hosts(data)
    assert [(str(seen.address), seen.port, seen.protocol) for seen in found] == hosts
    assert warnings == []


def test_a_line_without_a_host_has_a_warning() -> None:
    found, warnings = parse_hosts(b"nonsense\n")
    assert found == []
    assert [warning.line for warning in warnings] == [1]


@given(st.lists(st.ip_addresses(), min_size=1, max_size=30))
def test_binary_records_are_read_whole(addresses: list[IPAddress]) -> None:
    data = b"".join(
        (2 if address.version == 4 else 10).to_bytes(2, "little") + address.packed
        for address in addresses
    )
    found, warnings = parse_hosts(data)
    assert [seen.address for seen in found] == [unmapped(address) for address in addresses]
    assert warnings == []


@given(st.binary(max_size=400) | LINES.map(str.encode))
def test_nothing_raises(data: bytes) -> None:
    settings = parse_settings(data)
    count = len(parse.lines(data))
    assert all(1 <= option.line <= count for option in settings.options.values())
    assert all(1 <= warning.line <= count for warning in settings.warnings)
    for option in settings.options.values():
        parse_ports(option.value)
    parse_hosts(data)
