"""Blocks by the thousand: asked for by key, in one datagram and many answers."""

import errno

import pytest

from sentryfw.config import Config
from sentryfw.errors import KernelError
from sentryfw.netfilter import bulk
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.bulk import Life
from sentryfw.netfilter.install import install
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import EXACT, TABLE, Table
from sentryfw.netns import Namespace
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MANY = 3 * bulk.ASKED + 7
FOUR = {n.to_bytes(4): Life(3600.0 + n % 3, 1800.0 + n % 3) for n in range(MANY)}
SIX = {bytes((32, 1, 13, 184)) + n.to_bytes(4) + bytes(8): Life(60.0, 30.0) for n in range(MANY)}


def _installed(namespace: Namespace) -> Table:
    table = namespace.call(Table)
    namespace.call(lambda: install(table, Config(), []))
    return table


@pytest.fixture
def filled(namespace: Namespace, netlink: NfnetlinkSocket) -> NfnetlinkSocket:
    """Every third key of FOUR and SIX is not blocked."""
    _installed(namespace).close()
    for name, lives in (("block4", FOUR), ("block6", SIX)):
        there = {key: life for n, (key, life) in enumerate(lives.items()) if n % 3}
        bulk.put_back(netlink, name, there)
    return netlink


@pytest.mark.parametrize(("name", "lives"), [("block4", FOUR), ("block6", SIX)])
def test_what_is_there_is_found_with_what_is_left(
    filled: NfnetlinkSocket, name: str, lives: dict[bytes, Life]
) -> None:
    found = bulk.find(filled, name, list(lives))
    assert list(found) == [key for number, key in enumerate(lives) if number % 3]
    for key, life in found.items():
        assert life.timeout == lives[key].timeout
        assert life.left == pytest.approx(lives[key].left, abs=10)


def test_what_has_no_end_is_found_beside_what_has(filled: NfnetlinkSocket) -> None:
    lasting, timed, absent = b"\xc6\x33\x64\x01", (1).to_bytes(4), b"\xc6\x33\x64\x02"
    bulk.put_back(filled, "block4", {lasting: Life(0.0, 0.0)})
    found = bulk.find(filled, "block4", [timed, lasting, absent, timed])
    assert found[lasting] == Life(0.0, 0.0)
    assert found.keys() == {timed, lasting}


def test_a_key_that_looks_like_an_attribute_confuses_nobody(filled: NfnetlinkSocket) -> None:
    keys = [nl.u64(kind, 0)[:4] for kind in (nl.NFTA_SET_ELEM_TIMEOUT, nl.NFTA_SET_ELEM_EXPIRATION)]
    bulk.put_back(filled, "block4", dict.fromkeys(keys, Life(600.0, 500.0)))
    found = bulk.find(filled, "block4", [*keys, *list(FOUR)[:50], *keys])
    for key in keys:
        assert found[key].timeout == 600.0
        assert found[key].left == pytest.approx(500.0, abs=10)


def test_numbers_of_messages_begin_anew_before_they_do_not_fit(filled: NfnetlinkSocket) -> None:
    filled._sequence = (1 << 32) - 5
    assert len(bulk.find(filled, "block4", list(FOUR))) == MANY - len(range(0, MANY, 3))
    assert filled._sequence < 1 << 31


def test_an_answer_that_nobody_waited_for_is_passed_over(filled: NfnetlinkSocket) -> None:
    asking = filled.ask_each(
        nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, "block4"),
        [bulk._WANTED[4] + key for key in list(FOUR)[:9]], "elements",
    )  # fmt: skip
    next(asking)
    asking.close()
    assert len(bulk.find(filled, "block4", list(FOUR)[:9])) == 6


def test_what_the_kernel_refuses_is_said(filled: NfnetlinkSocket) -> None:
    with pytest.raises(KernelError) as refused:
        bulk.find(filled, "block4", [bytes(16)])  # no key of that set
    assert refused.value.code == errno.EINVAL


def test_a_look_pauses_after_each_datagram(filled: NfnetlinkSocket) -> None:
    pauses: list[int] = []
    bulk.find(filled, "block4", list(FOUR), lambda: pauses.append(1))
    assert len(pauses) == 4


# --- how many


@pytest.mark.parametrize("tells", [True, False], ids=["kernel-tells", "kernel-does-not"])
@pytest.mark.parametrize("size", [3, EXACT + 500], ids=["few", "many"])
def test_blocks_are_counted_with_and_without_the_kernels_count(
    namespace: Namespace, netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch, size: int, *,
    tells: bool,
) -> None:  # fmt: skip
    table = _installed(namespace)
    bulk.put_back(netlink, "block4", {n.to_bytes(4): bulk.Life(600, 500) for n in range(size)})
    if not tells:
        monkeypatch.setattr(nl, "set_count", lambda _: None)
    # A dump misses some for a moment, while the kernel's hash table grows.
    wait_for(lambda: table.count_blocked() == {4: size, 6: 0}, "all are counted")
    table.close()


def test_a_kernel_that_does_not_count_says_none() -> None:
    name = nl.text(nl.NFTA_SET_NAME, "block4")
    assert nl.set_count(nl.Message(0, 0, 0, bytes(4) + name)) is None
    counted = name + nl.u32(nl.NFTA_SET_COUNT, 70_000)
    assert nl.set_count(nl.Message(0, 0, 0, bytes(4) + counted)) == 70_000
