"""Allowlists: what people write is read the way they meant it, and nothing raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.host import address_list


def _networks(data: bytes) -> list[str]:
    return [str(entry.network) for entry in address_list.parse(data).entries]


@pytest.mark.parametrize(
    ("line", "network"),
    [
        (b"192.0.2.7", "192.0.2.7/32"),
        (b"  192.0.2.7/32  ", "192.0.2.7/32"),
        (b"192.0.2.7 # the printer", "192.0.2.7/32"),
        (b"192.0.2.7;the printer", "192.0.2.7/32"),
        (b"192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        (b"2001:DB8::1", "2001:db8::1/128"),
        (b"[2001:db8::1]", "2001:db8::1/128"),
        (b"::ffff:192.0.2.7", "192.0.2.7/32"),
        (b"::FFFF:C000:0207", "192.0.2.7/32"),
        (b"::ffff:192.0.2.0/120", "192.0.2.0/24"),
        (b"\xef\xbb\xbf192.0.2.7", "192.0.2.7/32"),
        (b"192.0.2.7\r", "192.0.2.7/32"),
        (b"\x00192.0.2.7\x00", "192.0.2.7/32"),
        (b"192.0.2.0 / 24", "192.0.2.0/24"),
    ],
)
def test_clear_spellings_are_read_without_a_warning(line: bytes, network: str) -> None:
    assert _networks(line) == [network]
    assert address_list.parse(line).warnings == []


@pytest.mark.parametrize(
    ("line", "networks", "text"),
    [
        (b"10.77.0.200/24", ["10.77.0.0/24"], "has host bits: read as 10.77.0.0/24"),
        (b"2001:db8::1/64", ["2001:db8::/64"], "has host bits: read as 2001:db8::/64"),
        (b"10.77.*.*", ["10.77.0.0/16"], "read as 10.77.0.0/16"),
        (b"fe80::1%eth0", ["fe80::1/128"], "the interface is ignored"),
        (b"192.0.2.7 my printer", ["192.0.2.7/32"], "'my printer' after the address: ignored"),
        (b"192.0.2.7, 192.0.2.8", ["192.0.2.7/32", "192.0.2.8/32"], "several addresses"),
        (b"0.0.0.0/0", [], "covers all addresses"),
        (b"::/0", [], "covers all addresses"),
        (b"::ffff:0.0.0.0/96", [], "covers all addresses"),
        (b"::ffff:192.0.2.7/120", ["192.0.2.0/24"], "has host bits: read as 192.0.2.0/24"),
        (b"010.0.0.1", [], "octal to some programs and decimal to others"),
        (b"192.0.2.0/33", [], "neither an address nor a network"),
        (b"printer.example", [], "neither an address nor a network"),
        (b"\xff\xfe\x80", [], "neither an address nor a network"),
    ],
)
def test_a_faulty_line_is_read_as_meant_and_its_fault_reported(
    line: bytes, networks: list[str], text: str
) -> None:
    found = address_list.parse(b"# list\n\n" + line + b"\n198.51.100.1\n")
    assert [str(entry.network) for entry in found.entries] == [*networks, "198.51.100.1/32"]
    assert [entry.line for entry in found.entries] == [3] * len(networks) + [4]
    (warning,) = found.warnings
    assert warning.line == 3
    assert text in warning.text


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_lines_are_counted_with_all_line_ends(end: bytes) -> None:
    found = address_list.parse(end.join([b"192.0.2.1", b"x", b"192.0.2.3"]))
    assert [entry.line for entry in found.entries] == [1, 3]
    assert [warning.line for warning in found.warnings] == [2]


def test_a_huge_file_is_read_up_to_its_limit() -> None:
    data = b"#" * address_list.MAX_BYTES
    assert address_list.parse(data).warnings == []
    (warning,) = address_list.parse(data + b"\n192.0.2.1\n").warnings
    assert "larger than" in warning.text


def test_the_number_of_warnings_is_limited() -> None:
    found = address_list.parse(b"x\n" * (address_list.MAX_WARNINGS + 1) + b"192.0.2.1\n")
    assert len(found.warnings) == address_list.MAX_WARNINGS
    assert len(found.entries) == 1


@given(
    st.binary(max_size=400) | st.text(alphabet="0123456789./:#;[]*% \r\n\tabcdef").map(str.encode)
)
def test_parsing_never_raises_and_names_existing_lines(data: bytes) -> None:
    found = address_list.parse(data)
    count = len(address_list.lines(data))
    for line in [*(e.line for e in found.entries), *(w.line for w in found.warnings)]:
        assert 1 <= line <= count
    assert all(entry.network.prefixlen for entry in found.entries)


@given(st.lists(st.ip_addresses(), max_size=20))
def test_every_written_address_is_found(addresses: list[object]) -> None:
    data = "".join(f"{address}\n" for address in addresses).encode()
    found = address_list.parse(data)
    assert len(found.entries) == len(addresses)
    assert found.warnings == []


FIELDS = st.sampled_from(
    ["0", "00", "01", "1", "9", "10", "127", "192", "255", "256", "300", "1000"]
)
BITS = st.sampled_from(
    ["", "/", "/0", "/1", "/8", "/24", "/31", "/32", "/33", "/08", "/99", "/255"]
)


@given(fields=st.lists(FIELDS, min_size=1, max_size=5), bits=BITS)
def test_a_plain_line_is_read_as_any_other(fields: list[str], bits: str) -> None:
    line = ".".join(fields) + bits
    plain = address_list.parse(line.encode())
    commented = address_list.parse(f"{line} # the slow way".encode())
    assert plain.entries == commented.entries
    assert plain.warnings == commented.warnings
