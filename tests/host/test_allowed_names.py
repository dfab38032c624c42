"""Names in the allowlist: what is asked, when again, what stays, and answers that lie."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from sentryfw.host import allowed_names
from sentryfw.host.allowed_names import (
    DENIED,
    KEEP_S,
    MAX_ADDRESSES,
    MAX_NAMES,
    MAX_TTL_S,
    MIN_TTL_S,
    NO_ANSWER,
    RETRY_S,
    Lookup,
    addresses_in,
    due_at,
    faults,
    look_up,
    networks,
    read,
    refresh,
)
from sentryfw.host.dns_message import BadAnswer
from sentryfw.tools.drill.namespace import Namespace

NAME = "office.example.org"
ANY = "0.0.0.0"  # noqa: S104
NOW = 1_700_000_000.0


class Resolvers:
    """Answers by name and family; None: no answer."""

    def __init__(self, **answers: Lookup | None) -> None:
        self.answers: dict[str, Lookup | None] = answers
        self.asked: list[tuple[str, str]] = []

    def __call__(self, name: str, family: str) -> Lookup:
        self.asked.append((name, family))
        answer = self.answers.get(f"ipv{family}")
        if answer is None:
            raise TimeoutError
        return answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "allowlist.names"


def allowed(path: Path, *names: str) -> set[str]:
    return {str(network) for _, network in networks(read(path), names or (NAME,))}


V4 = Lookup(("192.0.2.7",), 300.0)
V6 = Lookup(("2001:db8::7",), 120.0)
NONE = Lookup((), 3600.0)


def test_both_families_are_allowed_and_asked_again_by_their_ttl(path: Path) -> None:
    ask = Resolvers(ipv4=V4, ipv6=V6)
    found = refresh(path, [NAME], NOW, ask)
    assert allowed(path) == {"192.0.2.7/32", "2001:db8::7/128"}
    assert due_at(found) == NOW + 120
    refresh(path, [NAME], NOW + 119, ask)
    assert len(ask.asked) == 2
    ask.answers["ipv6"] = Lookup(("2001:db8::8",), 120.0)
    refresh(path, [NAME], NOW + 120, ask)
    assert ask.asked[2:] == [(NAME, "6")]
    assert allowed(path) == {"192.0.2.7/32", "2001:db8::8/128"}


@pytest.mark.parametrize(
    ("ttl", "wait"), [(0.0, MIN_TTL_S), (300.0, 300.0), (1e9, MAX_TTL_S)]
)  # fmt: skip
def test_a_ttl_is_bounded(path: Path, ttl: float, wait: float) -> None:
    ask = Resolvers(ipv4=Lookup(("192.0.2.7",), ttl), ipv6=Lookup((), MAX_TTL_S))
    assert due_at(refresh(path, [NAME], NOW, ask)) == NOW + wait


def test_the_last_good_answer_stays_while_dns_is_away(path: Path) -> None:
    ask = Resolvers(ipv4=V4, ipv6=V6)
    refresh(path, [NAME], NOW, ask)
    ask.answers.clear()
    later = NOW + 30 * 86400
    found = refresh(path, [NAME], later, ask)
    assert allowed(path) == {"192.0.2.7/32", "2001:db8::7/128"}
    assert faults(found) == {NAME: NO_ANSWER}
    assert due_at(found) == later + RETRY_S
    ask.answers |= {"ipv4": V4, "ipv6": V6}
    assert faults(refresh(path, [NAME], later + RETRY_S, ask)) == {}


def test_a_denied_name_is_allowed_for_a_day_more(path: Path) -> None:
    ask = Resolvers(ipv4=V4, ipv6=NONE)
    refresh(path, [NAME], NOW, ask)
    ask.answers["ipv4"] = NONE
    refresh(path, [NAME], NOW + KEEP_S - 1, ask)
    assert allowed(path) == {"192.0.2.7/32"}
    found = refresh(path, [NAME], NOW + KEEP_S + MAX_TTL_S, ask)
    assert allowed(path) == set()
    assert faults(found) == {NAME: f"{DENIED}; it has no address"}


def test_one_family_suffices(path: Path) -> None:
    assert faults(refresh(path, [NAME], NOW, Resolvers(ipv4=V4, ipv6=NONE))) == {}


def test_silent_resolvers_cost_one_timeout_of_all_names(path: Path) -> None:
    ask = Resolvers()
    names = [f"n{n}.example" for n in range(10)]
    found = refresh(path, names, NOW, ask)
    assert len(ask.asked) == 1
    assert set(faults(found)) == set(names)


def test_names_are_bounded_and_removed_ones_forgotten(path: Path) -> None:
    ask = Resolvers(ipv4=V4, ipv6=NONE)
    names = [f"n{n}.example" for n in range(MAX_NAMES + 5)]
    assert len(refresh(path, names, NOW, ask)) == MAX_NAMES
    refresh(path, ["n1.example"], NOW, ask)
    assert list(read(path)) == ["n1.example"]
    assert allowed(path, "n2.example") == set()


@pytest.mark.parametrize("due", [NOW - 1, NOW + MAX_TTL_S + 1])
def test_an_answer_of_a_wrong_clock_is_asked_again(path: Path, due: float) -> None:
    ask = Resolvers(ipv4=V4, ipv6=V6)
    refresh(path, [NAME], NOW, ask)
    table = json.loads(path.read_text())
    table[NAME]["4"]["due"] = due
    path.write_text(json.dumps(table))
    refresh(path, [NAME], NOW, ask)
    assert ask.asked[2:] == [(NAME, "4")]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"office.example.org": 1}', '{"office.example.org": {"4": []}}',
        '{"office.example.org": {"4": {"addresses": ["nonsense"]}}}',
        '{"office.example.org": {"4": {"addresses": ["0.0.0.0", "127.0.0.1", "224.0.0.1"]}}}',
        '{"office.example.org": {"4": {"addresses": ["2001:db8::1"]}}}',
        '{"office.example.org": {"4": {"addresses": 7, "x": 1}}}', "[" * 100_000,
        '{"office.example.org": {"4": {"addresses": ["192.0.2.0/1"]}}}',
    ],
)  # fmt: skip
def test_a_damaged_file_allows_nothing(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    assert allowed(path) == set()


# --- answers


def message(number: int = 7, name: str = NAME, kind: str = "A", **fields: Any) -> bytes:
    return bytes(DNS(id=number, qr=1, qd=[DNSQR(qname=name, qtype=kind)], **fields))


def a(owner: str, address: str, ttl: int = 60) -> DNSRR:
    return DNSRR(rrname=owner, type="A", rdata=address, ttl=ttl)


def alias(owner: str, target: str, ttl: int = 30) -> DNSRR:
    return DNSRR(rrname=owner, type="CNAME", rdata=target, ttl=ttl)


def test_aliases_are_followed_and_the_shortest_ttl_counts() -> None:
    records = [alias(NAME, "dyn.example.net."), a("DYN.example.net.", "192.0.2.7", 600)]
    assert addresses_in(message(an=records), 7, NAME, "4") == Lookup(("192.0.2.7",), 30.0)


@pytest.mark.parametrize(
    "records",
    [
        [a("other.example.org.", "203.0.113.66")],
        [a(NAME, "127.0.0.1"), a(NAME, ANY), a(NAME, "239.0.0.1")],
        [alias(NAME, "dyn.example.net."), a("evil.example.net.", "203.0.113.66")],
        [DNSRR(rrname=NAME, type="AAAA", rdata="2001:db8::66")],
        [],
    ],
    ids=["another name", "no source", "another target", "another family", "nothing"],
)
def test_an_address_that_is_not_of_the_name_is_not_allowed(records: list[DNSRR]) -> None:
    assert addresses_in(message(an=records), 7, NAME, "4").addresses == ()


def test_addresses_of_a_name_are_bounded() -> None:
    records = [a(NAME, f"192.0.2.{n}") for n in range(1, 31)]
    assert len(addresses_in(message(an=records), 7, NAME, "4").addresses) == MAX_ADDRESSES


@pytest.mark.parametrize(
    "data",
    [message(8), message(name="evil.example."), message(kind="AAAA"), message(rcode=2), b"\0\7"],
    ids=["number", "name", "kind", "servfail", "cut"],
)
def test_another_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        addresses_in(data, 7, NAME, "4")


# --- over the network


@pytest.fixture
def serve(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Resolvers on 127.0.0.1 and 127.0.0.2, port 53, of a namespace."""
    monkeypatch.setattr(allowed_names, "resolvers", lambda: ["127.0.0.2", "127.0.0.1"])
    made: list[socket.socket] = []

    def start(address: str, reply: Callable[[DNS], bytes]) -> None:
        server = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((address, 53))
        made.append(server)

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, peer = server.recvfrom(4096)
                    server.sendto(reply(DNS(data)), peer)

        threading.Thread(target=run, daemon=True).start()

    yield start
    for server in made:
        server.close()


def test_the_next_resolver_is_asked_after_a_failure(
    namespace: Namespace, serve: Callable[..., None]
) -> None:
    serve("127.0.0.2", lambda asked: message(asked.id, rcode=2))
    serve("127.0.0.1", lambda asked: message(asked.id, an=[a(NAME, "192.0.2.7")]))
    assert namespace.call(lambda: look_up(NAME, "4")) == Lookup(("192.0.2.7",), 60.0)


def test_without_a_resolver_there_is_an_error_soon(
    namespace: Namespace, serve: Callable[..., None]
) -> None:
    assert serve
    with pytest.raises(OSError, match="refused"):
        namespace.call(lambda: look_up(NAME, "4"))
