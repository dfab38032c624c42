"""Entries: one form alone, and hostile bytes."""

import json
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import parse_source
from sentryfw.fleet.entry import (
    MAX_ENTRY_BYTES,
    MAX_SEQUENCE,
    PAIR_SCHEMA,
    Elements,
    Entry,
    UnreadableEntry,
    is_name,
    network_text,
    parse,
)

ENTRY = Entry(
    op="block", member="fw1", seq=4711, network=ip_network("192.0.2.7/32"), duration_s=3600,
    evidence="forgeable", scan="portscan", reason="3 distinct targets within the window",
    at=1_764_000_000,
)  # fmt: skip


def read(raw: bytes) -> bytes:
    """Return the bytes of the entry that was read, or the word by which it was refused."""
    try:
        return parse(raw).encode()
    except UnreadableEntry as error:
        return str(error).encode()


def changed(**fields: object) -> bytes:
    """Return the canonical bytes of ENTRY with other fields."""
    given = json.loads(ENTRY.encode()) | fields
    return json.dumps(given, sort_keys=True, separators=(",", ":")).encode()


def test_an_entry_survives_its_bytes() -> None:
    assert parse(ENTRY.encode()) == ENTRY


def test_its_bytes_are_what_the_documentation_shows() -> None:
    assert ENTRY.encode() == (
        b'{"address":"192.0.2.7","at":1764000000,"duration_s":3600,"evidence":"forgeable",'
        b'"member":"fw1","op":"block","reason":"3 distinct targets within the window",'
        b'"scan":"portscan","seq":4711,"v":1}'
    )


@pytest.mark.parametrize(
    ("network", "is_host"),
    [
        ("192.0.2.7/32", True), ("2001:db8::/64", True), ("2001:db8::1/128", True),
        ("192.0.2.0/24", False), ("0.0.0.0/0", False), ("2001:db8::/48", False), ("::/0", False),
    ],
)  # fmt: skip
def test_a_source_is_an_address_or_a_64(network: str, is_host: object) -> None:
    assert ENTRY._replace(network=ip_network(network)).is_host is is_host


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not-json"),
        (b"\xff\xfe", "not-json"),
        (b"[" * 1000, "not-json"),
        (b"[]", "not-an-object"),
        (b" " * (MAX_ENTRY_BYTES + 1), "too-long"),
        (changed(v=3), "unknown-version"),
        (changed(v=2), "not-canonical"),
        (changed(op="unblock"), "not-canonical"),
        (changed(op="elements"), "unknown-fields"),
        (changed(v=True), "bad-v"),
        (changed(more=1), "unknown-fields"),
        (changed(op="drop"), "bad-op"),
        (changed(op=["block"]), "bad-op"),
        (changed(member="FW 1"), "bad-member"),
        (changed(member=""), "bad-member"),
        (changed(seq=-1), "bad-seq"),
        (changed(seq=1.0), "bad-seq"),
        (changed(seq=MAX_SEQUENCE + 1), "bad-seq"),
        (changed(address="192.0.2.7/24"), "bad-address"),
        (changed(address="::ffff:192.0.2.7"), "bad-address"),
        (changed(address="fe80::1%eth0"), "bad-address"),
        (changed(address=7), "bad-address"),
        (changed(address="192.0.2.7/32"), "not-canonical"),
        (changed(duration_s=10**12), "bad-duration_s"),
        (changed(evidence="certain"), "bad-evidence"),
        (changed(scan="a b"), "bad-scan"),
        (changed(reason="\x1b[2J"), "bad-reason"),
        (changed(reason="x" * 201), "bad-reason"),
        (changed(at="now"), "bad-at"),
        (ENTRY.encode() + b" ", "not-canonical"),
        (ENTRY.encode().replace(b'"v":1', b'"v":1,"v":1'), "not-canonical"),
    ],
)
def test_hostile_bytes_are_refused_by_a_word(raw: bytes, why: str) -> None:
    with pytest.raises(UnreadableEntry, match=f"^{why}$"):
        parse(raw)


@given(st.binary(max_size=2000))
def test_any_bytes_are_an_entry_or_refused(raw: bytes) -> None:
    assert read(raw) == raw or len(read(raw)) < 20  # a counter's label


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(ENTRY.encode()))), JSON)
def test_any_value_in_any_field_is_read_exactly_or_refused(name: str, value: object) -> None:
    raw = changed(**{name: value})
    assert read(raw) == raw or len(read(raw)) < 20


@pytest.mark.parametrize("name", ["fw1", "a", "0", "edge-2", "x" * 32])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a b", "x" * 33, "a\n"])
def test_texts_that_cannot_be_names(name: str) -> None:
    assert not is_name(name)


LEARNT = Elements("fw1", 7, "partner4", ((b"\xc0\x00\x02\x07", 100), (b"\xc0\x00\x02\x08", 9)), 5)


def test_statements_of_a_pair_survive_their_bytes_and_have_their_own_version() -> None:
    unblock = ENTRY._replace(op="unblock")
    for statement in (LEARNT, unblock):
        assert parse(statement.encode()) == statement
        assert json.loads(statement.encode())["v"] == PAIR_SCHEMA
    assert json.loads(ENTRY.encode())["v"] == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"elements": {}}, "bad-elements"), ({"elements": []}, "bad-elements"),
        ({"elements": {"zz": 1}}, "bad-elements"), ({"elements": {"c0000207": 0}}, "bad-elements"),
        ({"elements": {"c0000207": True}}, "bad-elements"),
        ({"elements": {"c0000208": 1, "c0000207": 1}}, "not-canonical"),
        ({"elements": {"C0000207": 1}}, "bad-elements"),
        ({"set": "block4; flush"}, "bad-set"), ({"more": 1}, "unknown-fields"),
        ({"v": 1}, "not-canonical"), ({"member": "FW"}, "bad-member"),
    ],
)  # fmt: skip
def test_hostile_elements_are_refused_by_a_word(change: dict[str, object], why: str) -> None:
    fields = {**json.loads(LEARNT.encode()), **change}
    order = change.get("elements")
    raw = json.dumps(dict(sorted(fields.items())), separators=(",", ":")).encode()
    assert order is None or isinstance(order, list | dict)
    with pytest.raises(UnreadableEntry, match=f"^{why}$"):
        parse(raw)


NETWORKS: st.SearchStrategy[IPv4Network | IPv6Network] = st.one_of(
    st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(0, 2**32 - 1),
              st.integers(0, 32)),
    st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.integers(0, 2**128 - 1),
              st.integers(0, 128)),
    st.builds(lambda words: IPv6Network(b"".join(words)),
              st.lists(st.sampled_from([b"\0\0", b"\0\x01", b"\xff\xff"]), min_size=8, max_size=8)),
)  # fmt: skip


@given(NETWORKS)
def test_a_network_is_written_as_python_writes_it(network: IPv4Network | IPv6Network) -> None:
    """Also where libc would write the end of an IPv6 address as an IPv4 address."""
    is_single = network.prefixlen == network.max_prefixlen
    assert network_text(network) == str(network.network_address if is_single else network)


@given(
    NETWORKS, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
    st.integers(0, 2**40),
)  # fmt: skip
def test_the_bytes_are_those_of_sorted_json(
    network: IPv4Network | IPv6Network, reason: str, at: int
) -> None:
    entry = ENTRY._replace(network=network, reason=reason, at=at)
    fields = json.loads(entry.encode())
    assert fields["reason"] == reason
    assert entry.encode() == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    is_mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
    assert is_mapped or parse(entry.encode()) == entry


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8:7::/64", "2001:db8::1"])
def test_a_source_is_that_of_the_packet_path(address: str) -> None:
    assert ENTRY._replace(network=ip_network(address)).source == parse_source(address)
