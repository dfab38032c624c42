"""Reverse DNS: queries, answers, and resolvers that send wrong answers or none."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR

from sentryfw.config.respond import Dns
from sentryfw.errors import ReactionFailed
from sentryfw.host.dns_message import BadAnswer
from sentryfw.respond.dns import Resolver, answer_name, query
from sentryfw.text import clean_name
from sentryfw.tools.drill.namespace import Namespace

ASKED = ip_address("198.18.0.2")


def _answer(question: bytes, *names: str, **fields: Any) -> bytes:
    """Return scapy's answer to our query."""
    asked = DNS(question)
    name = asked.qd[0].qname
    records = [DNSRR(rrname=name, type="PTR", rdata=text) for text in names]
    return bytes(DNS(id=asked.id, qr=1, qd=[DNSQR(qname=name, qtype="PTR")], an=records, **fields))


@pytest.mark.parametrize("address", ["198.18.0.2", "2001:2:0:1::2"])
def test_scapy_parses_the_query(address: str) -> None:
    asked = DNS(query(7, ip_address(address)))
    question = asked.qd[0]
    assert asked.id == 7
    assert (asked.rd, asked.qr, asked.qdcount) == (1, 0, 1)
    assert question.qname.decode() == ip_address(address).reverse_pointer + "."
    assert question.qtype == 12


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["scanner.example."], "scanner.example"),
        (["bad_name.example.", "good.example."], "good.example"),
        ([], ""),
        (["\x1b[31m.example."], ""),
        (["-x.example."], ""),
        (["a" * 63 + ".example."], "a" * 63 + ".example"),
    ],
    ids=["one", "second-is-good", "none", "escape", "hyphen", "longest-label"],
)
def test_the_first_valid_host_name_is_the_answer(names: list[str], found: str) -> None:
    question = query(7, ASKED)
    assert answer_name(_answer(question, *names), 7) == found


def test_names_may_be_compressed() -> None:
    question = query(7, ASKED)
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + question[12:]
    suffix = 12 + len(question[12:]) + 12 + 5  # where "example" stands in the answer
    data = b"\x04scan\x07example\x00"
    record = b"\xc0\x0c" + struct.pack("!HHIH", 12, 1, 60, len(data)) + data
    assert answer_name(head + record, 7) == "scan.example"
    pointer = b"\x03two" + struct.pack("!H", 0xC000 | suffix)
    more = b"\xc0\x0c" + struct.pack("!HHIH", 12, 1, 60, len(pointer)) + pointer
    bad = record.replace(b"\x04scan", b"\x04sc_n")
    two = struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + question[12:]
    assert answer_name(two + bad + more, 7) == "two.example"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:20],
        lambda data: b"\0\0" + data[2:],
        lambda data: data[:2] + b"\x01\x00" + data[4:],
        lambda data: data[:3] + b"\x82" + data[4:],
        lambda data: data[:12] + b"\xc0\x0c" + data[14:],
        lambda data: data[:12] + b"\x80" + data[13:],
    ],
    ids=["cut", "other-number", "a-question", "servfail", "endless-name", "odd-label"],
)
def test_an_answer_that_is_not_valid_is_refused(change: Any) -> None:
    data = _answer(query(7, ASKED), "scanner.example.")
    with pytest.raises(BadAnswer):
        answer_name(change(data), 7)


def test_a_missing_name_is_not_a_fault() -> None:
    assert answer_name(_answer(query(7, ASKED), rcode=3), 7) == ""


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_bad_answer(data: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        name = answer_name(b"\0\x07\x81\x80" + data, 7)
        assert name == clean_name(name)


# --- over the network


class DnsServer:
    """Answers on 127.0.0.1 of a namespace, by the function `reply`."""

    def __init__(self, namespace: Namespace) -> None:
        self.reply: Any = lambda question: [_answer(question, "scanner.example.")]
        self.questions: list[bytes] = []
        self.socket = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, peer = self.socket.recvfrom(4096)
                self.questions.append(question)
                for answer in self.reply(question):
                    self.socket.sendto(answer, peer)


@pytest.fixture
def server(namespace: Namespace) -> Iterator[DnsServer]:
    made = DnsServer(namespace)
    yield made
    made.socket.close()


def _resolver(server: DnsServer, **settings: Any) -> Resolver:
    values = {"servers": ["127.0.0.1"], "port": server.port, "timeout": 0.5, **settings}
    return Resolver(Dns.model_validate(values))


def test_a_name_is_asked_for_once_and_then_cached(namespace: Namespace, server: DnsServer) -> None:
    resolver = _resolver(server)
    assert resolver.cached("198.18.0.2") is None
    for _ in range(3):
        assert namespace.call(lambda: resolver.resolve("198.18.0.2")) == "scanner.example"
    assert resolver.cached("198.18.0.2") == "scanner.example"
    assert len(server.questions) == 1


def test_a_missing_name_is_cached_too(namespace: Namespace, server: DnsServer) -> None:
    server.reply = lambda question: [_answer(question, rcode=3)]
    resolver = _resolver(server)
    for _ in range(3):
        assert namespace.call(lambda: resolver.resolve("2001:2:0:1::2")) == ""
    assert len(server.questions) == 1


def test_an_answer_with_another_id_is_ignored(namespace: Namespace, server: DnsServer) -> None:
    def guess_first(question: bytes) -> list[bytes]:
        wrong = _answer(question, "forged.example.")
        number = int.from_bytes(wrong[:2]) ^ 1
        return [number.to_bytes(2) + wrong[2:], _answer(question, "true.example.")]

    server.reply = guess_first
    resolver = _resolver(server)
    assert namespace.call(lambda: resolver.resolve("198.18.0.2")) == "true.example"


def test_a_silent_resolver_costs_its_timeout_once(namespace: Namespace, server: DnsServer) -> None:
    server.reply = lambda _: []
    resolver = _resolver(server)
    begin = time.monotonic()
    with pytest.raises(ReactionFailed, match=r"no answer within 0\.5s"):
        namespace.call(lambda: resolver.resolve("198.18.0.2"))
    assert 0.4 < time.monotonic() - begin < 2
    begin = time.monotonic()
    for number in range(100):
        with pytest.raises(ReactionFailed, match="no query was sent"):
            namespace.call(lambda n=number: resolver.resolve(f"198.18.1.{n}"))  # type: ignore[misc]
    assert time.monotonic() - begin < 0.4
    assert len(server.questions) == 1


def test_the_next_resolver_is_asked_after_a_failure(
    namespace: Namespace, server: DnsServer
) -> None:
    resolver = _resolver(server, servers=["127.0.0.2", "127.0.0.1"], timeout=2)
    assert namespace.call(lambda: resolver.resolve("198.18.0.2")) == "scanner.example"


def test_the_cache_is_bounded_and_expires(namespace: Namespace, server: DnsServer) -> None:
    resolver = _resolver(server, cache=3, keep=0.2)
    for number in range(5):
        namespace.call(lambda n=number: resolver.resolve(f"198.18.1.{n}"))  # type: ignore[misc]
    known = [resolver.cached(f"198.18.1.{number}") for number in range(5)]
    assert known[:2] == [None, None]
    assert len(resolver._cache) == 3
    time.sleep(0.25)
    assert resolver.cached("198.18.1.4") is None
