"""Whole sets, read while another program changes them."""

import threading
from collections.abc import Iterator

import pytest

from sentryfw.netfilter import block_sets
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.sets import whole
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.message import Message
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("table")]

COUNT = 3000
KEYS = [number.to_bytes(4) for number in range(1, COUNT + 1)]


@pytest.fixture
def filled(netlink: NfnetlinkSocket) -> NfnetlinkSocket:
    block_sets.add_elements(netlink, "block4", dict.fromkeys(KEYS, Lifetime(600.0, 500.0)))
    return netlink


class Interrupted:
    """Lets another program add and delete elements between the messages of each dump."""

    def __init__(self, netlink: NfnetlinkSocket, other: NfnetlinkSocket, times: int) -> None:
        self.dumps = 0
        self._other = other
        self._times = times
        self._dump = netlink.dump
        self._next = 0x0A000000
        netlink.dump = self  # type: ignore[method-assign]

    def __call__(self, kind: int, body: bytes, what: str) -> Iterator[Message]:
        self.dumps += 1
        for reply in self._dump(kind, body, what):
            if self.dumps <= self._times:
                self._change()
            yield reply

    def _change(self) -> None:
        key = self._next.to_bytes(4)
        self._next += 1
        element = set_elements.set_element(TABLE, "block4", key, 600.0)
        self._other.transact([(nl.NFT_MSG_NEWSETELEM, 0x400, element)], "by another program")
        plain = set_elements.set_element(TABLE, "block4", key)
        self._other.transact([(nl.NFT_MSG_DELSETELEM, 0, plain)], "by another program")


@pytest.fixture
def other(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    with namespace.call(NfnetlinkSocket) as made:
        yield made


def test_a_quiet_set_is_dumped_once(filled: NfnetlinkSocket, other: NfnetlinkSocket) -> None:
    reading = Interrupted(filled, other, 0)
    found = whole.read_elements(filled, "block4", pytest.fail)
    assert sorted(element.key for element in found) == KEYS
    assert reading.dumps == 1


def test_an_interrupted_dump_is_done_again(filled: NfnetlinkSocket, other: NfnetlinkSocket) -> None:
    reading = Interrupted(filled, other, 1)
    found = whole.read_elements(filled, "block4", pytest.fail)
    assert sorted(element.key for element in found) == KEYS
    assert reading.dumps == 2


def test_dumps_that_are_all_interrupted_show_each_element_once_and_none_that_is_gone(
    filled: NfnetlinkSocket, other: NfnetlinkSocket
) -> None:
    reading = Interrupted(filled, other, 99)
    warnings: list[str] = []
    found = whole.read_elements(filled, "block4", warnings.append)
    keys = [element.key for element in found]
    assert reading.dumps == whole.MAX_DUMPS
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(KEYS), "elements are listed that were deleted meanwhile"
    # Either all of them are there, or a warning counts the missing ones.
    assert (len(keys) < COUNT) == bool(warnings)
    assert {(element.timeout, element.packets) for element in found} == {(600.0, 0)}


def test_missing_elements_are_a_warning(
    filled: NfnetlinkSocket, other: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    Interrupted(filled, other, 99)
    monkeypatch.setattr(whole, "reported_count", lambda *_: COUNT + 5)
    warnings: list[str] = []
    whole.read_elements(filled, "block4", warnings.append)
    [warning] = warnings
    assert "set block4 changed each time it was read: of 3,005 elements" in warning


def test_a_long_dump_is_not_repeated(
    filled: NfnetlinkSocket, other: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "MAX_DUMP_S", 0.0)
    reading = Interrupted(filled, other, 99)
    whole.read_elements(filled, "block4", lambda _: None)
    assert reading.dumps == 1


def test_a_set_is_whole_while_a_thread_changes_it(
    filled: NfnetlinkSocket, other: NfnetlinkSocket
) -> None:
    ending = threading.Event()
    churn = Interrupted(other, other, 0)

    def change() -> None:
        while not ending.wait(0.005):
            churn._change()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            warnings: list[str] = []
            found = whole.read_elements(filled, "block4", warnings.append)
            assert warnings or {element.key for element in found} >= set(KEYS)
    finally:
        ending.set()
        thread.join()
