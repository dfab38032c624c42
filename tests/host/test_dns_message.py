"""DNS messages: resolvers, and answers that are cut or hostile."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from sentryfw.host.dns_message import BadAnswer, parse_answer, question, resolvers


def test_resolvers_are_those_of_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# x\nnameserver 192.0.2.1\nsearch example\nnameserver nonsense\nnameserver ::1 # y\n"
        "nameserver 192.0.2.2\nnameserver 192.0.2.3\n"
    )
    assert resolvers(path) == ["192.0.2.1", "::1", "192.0.2.2"]
    assert resolvers(tmp_path / "missing") == ["127.0.0.1"]


def test_an_answer_repeats_its_question() -> None:
    asked = DNS(question(7, "office.example.org", 1))
    assert asked.qd[0].qname == b"office.example.org."
    record = DNSRR(rrname="office.example.org", type="A", ttl=60, rdata="192.0.2.7")
    data = bytes(DNS(id=7, qr=1, qd=[DNSQR(qname="office.example.org")], an=[record]))
    found = parse_answer(data, 7)
    assert (found.name, found.kind) == ("office.example.org", 1)
    [made] = found.records
    assert (made.owner, made.kind, made.ttl) == ("office.example.org", 1, 60)
    assert data[made.start : made.start + made.size] == bytes((192, 0, 2, 7))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_bad_answer(data: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        parse_answer(b"\0\x07\x81\x80" + data, 7)


@pytest.mark.parametrize("data", [b"", b"\0\x07", b"\0\x07\x81\x80\0\x02" + bytes(6)])
def test_a_message_of_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_answer(data, 7)
