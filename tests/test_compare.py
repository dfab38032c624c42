"""Kernel, memory and ledger held against each other: what each side lacks or knows better."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from ipaddress import ip_address, ip_network

import pytest

from sentryfw import compare
from sentryfw.compare import GRACE, TOLERANCE, Book, Kernel, Look, Restoring
from sentryfw.config import Config
from sentryfw.memory import End, Ends
from sentryfw.netfilter import bulk
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.bulk import Life, Range
from sentryfw.netfilter.install import install
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import Table
from sentryfw.netns import Namespace
from sentryfw.record.lives import Alive

NOW = 1000.0
HOUR = 3600.0
SETTLED: End = (HOUR, NOW + HOUR - GRACE)
FRESH: End = (HOUR, NOW + HOUR - GRACE / 2)
A, B, C = "198.51.100.1", "198.51.100.2", "2001:db8:1::/64"


def _key(address: str) -> bytes:
    return ip_address(address.partition("/")[0]).packed


def _row(address: str, end: End) -> Alive:
    return Alive(address, 6 if ":" in address else 4, end[0], end[1] - NOW)


def _ends(**known: End) -> Ends:
    ends = Ends()
    for name, end in known.items():
        ends[_key({"a": A, "b": B, "c": C}[name])] = end
    return ends


def _nothing() -> Look:
    return Look([], {}, [], {}, {})


# --- the ledger's rows


def test_rows_of_what_we_remember_are_as_they_should_be() -> None:
    rows = [_row(A, SETTLED), _row(C, SETTLED)]
    book = Book(_ends(a=SETTLED, c=SETTLED), _nothing(), NOW, bool)
    book.read(rows)
    assert (book.rows, book.ended, book.moved) == (2, [], [])
    assert not book.lacks_some()


@pytest.mark.parametrize(
    ("end", "adopted"),
    [(SETTLED, [B]), (FRESH, []), ((0.0, 0.0), [B]), ((HOUR, NOW - 1), [])],
    ids=["old", "just-made", "without-end", "over"],
)
def test_a_block_without_a_row_is_a_stranger_once_it_had_time(end: End, adopted: list[str]) -> None:
    rows = [_row(A, SETTLED)]
    book = Book(_ends(a=SETTLED, b=end), _nothing(), NOW, bool)
    book.read(rows)
    assert book.lacks_some() is bool(adopted)
    if adopted:
        assert [item.address for item in book.strangers(rows)] == adopted


def test_a_row_without_a_block_has_ended() -> None:
    found = _nothing()
    found.over.append(_key(B))
    book = Book(_ends(b=(HOUR, NOW - 1)), found, NOW, bool)
    book.read([_row(A, SETTLED), _row(B, (HOUR, NOW + 60)), _row("no address", SETTLED)])
    assert book.ended == [A, B]


def test_a_row_of_what_the_kernel_lost_has_not_ended() -> None:
    """It is put back, and nobody is a stranger for it."""
    found = _nothing()
    found.missing.append(_key(B))
    book = Book(_ends(a=SETTLED, b=SETTLED), found, NOW, bool)
    book.read([_row(A, SETTLED)])
    assert book.ended == []
    assert list(book.strangers([_row(A, SETTLED)])) == []


@pytest.mark.parametrize("off", [TOLERANCE + 1, TOLERANCE - 1], ids=["beyond", "within"])
def test_the_kernels_end_goes_before_the_rows(off: float) -> None:
    theirs = (HOUR, SETTLED[1] - off)
    found = _nothing()
    found.moved[_key(A)] = SETTLED, theirs
    book = Book(_ends(a=SETTLED), found, NOW, bool)
    book.read([_row(A, SETTLED)])
    assert book.moved == ([(A, theirs[1])] if off > TOLERANCE else [])
    assert not book.lacks_some()


def test_networks_and_strangers_are_kept_apart() -> None:
    found = _nothing()
    found.strangers[_key(A)] = SETTLED
    book = Book(Ends(), found, NOW, bool)
    book.read([_row(A, SETTLED), _row("203.0.113.0/24", SETTLED)])
    assert book.known.keys() == {A}
    assert book.networks.keys() == {"203.0.113.0/24"}
    assert book.ended == []


def test_a_range_by_hand_is_several_networks() -> None:
    ranges = {"block_net4": [Range(_key("203.0.113.0"), _key("203.0.113.3"), Life(HOUR, NOW + 60))]}
    found = list(compare.alive_networks(ranges, NOW))
    assert [(item.address, item.left) for item in found] == [
        ("203.0.113.0/31", 60), ("203.0.113.2/32", 60),
    ]  # fmt: skip
    assert list(compare.alive_networks(ranges, NOW + 61)) == []
    assert compare.networks_of(Range(bytes([240, 0, 0, 0]), None, Life(0, 0))) == [
        ip_network("240.0.0.0/4")
    ]


# --- the kernel

MANY = 600
SMALL = 100
KEYS = [number.to_bytes(4) for number in range(1, MANY + 1)]


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    with closing(namespace.call(Table)) as table:
        namespace.call(lambda: install(table, Config(), []))
    with namespace.call(NfnetlinkSocket) as made:
        yield made


@pytest.fixture(params=["small", "large", "uncounted"])
def filled(
    request: pytest.FixtureRequest, netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> NfnetlinkSocket:
    """Half of KEYS are blocked, and one that is not of them; as a set that is dumped, one that is
    too large for that, and one of a kernel that does not count."""
    if request.param == "large":
        monkeypatch.setattr(compare, "DUMPED", SMALL)
    if request.param == "uncounted":
        monkeypatch.setattr(nl, "set_count", lambda _: None)
    lives = dict.fromkeys([*KEYS[::2], _key(A)], Life(HOUR, HOUR / 2))
    bulk.put_back(netlink, "block4", lives)
    return netlink


@pytest.mark.netns
def test_a_look_says_what_is_missing_over_and_moved(filled: NfnetlinkSocket) -> None:
    now = time.monotonic()
    ends = Ends()
    for key in KEYS:
        ends[key] = (HOUR, now + HOUR / 2)
    ends[KEYS[0]] = (HOUR, now + 60)
    ends[KEYS[1]] = (HOUR, now - 1)
    ends[KEYS[3]] = (0.0, 0.0)
    kernel = Kernel(filled, bool)
    found = compare.look(ends, kernel, bool)
    assert sorted(found.missing) == KEYS[3::2]
    assert found.over == [KEYS[1]]
    assert found.moved.keys() == {KEYS[0]}
    assert found.there == {"block4": MANY // 2, "block6": 0}


@pytest.mark.netns
def test_at_a_start_only_what_is_missing_is_put_back(
    namespace: Namespace, filled: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ROWS", 64)
    now = time.monotonic()
    restoring = namespace.call(lambda: Restoring(filled, size=100))
    for key in KEYS:
        restoring.add(key, str(ip_address(key)), HOUR, now + HOUR / 4)
    restoring.finish()
    assert (restoring.rows, restoring.restored) == (MANY, MANY // 2)
    assert len(restoring.moved) == MANY // 2
    there = bulk.find(filled, "block4", KEYS)
    for number, key in enumerate(KEYS):
        left = HOUR / 4 if number % 2 else HOUR / 2
        assert there[key].left == pytest.approx(left, abs=10)
        end = restoring.ends.get(key)
        assert end == (HOUR, pytest.approx(now + left, abs=10))
    is_dumped = compare.DUMPED > SMALL
    assert restoring.has_strangers is not is_dumped
    assert (restoring.strangers.keys() == {_key(A)}) is is_dumped
    assert (_key(A) in restoring.ends) is is_dumped


@pytest.mark.netns
@pytest.mark.parametrize(("ended", "more"), [(0, ["block4"]), (1, [])])
def test_what_has_just_ended_makes_nobody_look_for_strangers(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch, ended: int, more: list[str]
) -> None:
    monkeypatch.setattr(compare, "DUMPED", SMALL)
    bulk.put_back(netlink, "block4", dict.fromkeys(KEYS, Life(HOUR, HOUR)))
    kernel = Kernel(netlink, bool)
    assert kernel.outnumbers({"block4": MANY - 1, "block6": 0}, ended) == more


@pytest.mark.netns
def test_a_full_set_takes_what_fits_and_the_rest_is_said(
    namespace: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    sets = "".join(
        f"set block{family} {{ type ipv{family}_addr; size {SMALL}; flags timeout; }}\n"
        for family in (4, 6)
    )
    namespace.run("nft", f"table inet sentryfw {{\n{sets}}}")
    now = time.monotonic()
    with namespace.call(NfnetlinkSocket) as netlink, caplog.at_level(logging.ERROR, "sentryfwd"):
        restoring = Restoring(netlink)
        for key in KEYS:
            restoring.add(key, str(ip_address(key)), HOUR, now + HOUR)
        restoring.finish()
        assert len(bulk.find(netlink, "block4", KEYS)) == SMALL
    assert restoring.restored == len(restoring.ends) == SMALL
    assert f"block4 is full: {MANY - SMALL} blocks of the ledger are not restored" in caplog.text


@pytest.mark.netns
def test_many_of_our_own_are_put_back_without_being_told(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "TOLD", SMALL)
    times: list[int] = []

    def quietly() -> AbstractContextManager[None]:
        times.append(1)
        return nullcontext()

    for count, told in ((SMALL, 0), (SMALL + 1, 1)):
        restoring = Restoring(netlink, quietly)
        for key in KEYS[:count] if not told else KEYS[-count:]:
            restoring.add(key, str(ip_address(key)), HOUR, time.monotonic() + HOUR)
        restoring.finish()
        assert len(times) == told
