"""Elements by key, in the kernel's sets."""

import errno
import time

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.errors import KernelError
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import NLM_F_CREATE, NLM_F_EXCL
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "c0000201"),
        ("2001:db8:0:1::/64", "20010db8000000010000000000000000"),
        ("fe80::1", "fe800000000000000000000000000001"),
    ],
)
def test_a_key_is_an_address_or_a_64_with_a_zero_identifier(address: str, key: str) -> None:
    assert elements.key_of(parse_source(address)).hex() == key


@pytest.mark.usefixtures("table")
def test_an_element_is_given_another_timeout_read_and_deleted(namespace: Namespace) -> None:
    key = elements.key_of(parse_source("192.0.2.1"))
    with namespace.call(NfnetlinkSocket) as netlink:
        assert elements.get(netlink, "cut4", key) is None
        for timeout in (600.0, 60.0):
            netlink.transact(elements.timed_requests("cut4", key, timeout), "test")
            found = elements.get(netlink, "cut4", key)
            assert found is not None
            assert (found.key, found.timeout) == (key, timeout)
        parts = list(elements.dump(netlink, "cut4"))
        assert [element.key for part in parts for element in part] == [key]
        assert elements.delete(netlink, "cut4", key)
        assert not elements.delete(netlink, "cut4", key)


class RefusingSocket(NfnetlinkSocket):
    """Keeps the transactions, and answers the first with an errno."""

    def __init__(self, code: int = 0) -> None:
        self.sent: list[list[nl.NftRequest]] = []
        self._code = code

    def transact(self, requests: list[nl.NftRequest], what: str, *, commit: bool = True) -> None:
        self.sent.append(requests)
        if self._code and len(self.sent) == 1:
            raise KernelError(self._code, what)


WANTED = [("block4", bytes((192, 0, 2, 1)), 600.0), ("cut4", bytes((192, 0, 2, 1)), 0.0)]


def test_new_elements_are_added_without_a_deletion() -> None:
    netlink = RefusingSocket()
    elements.add_timed(netlink, iter(WANTED), "test")
    [requests] = netlink.sent
    assert [request[:2] for request in requests] == [
        (nl.NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL)
    ] * len(WANTED)


def test_if_one_element_exists_all_are_deleted_and_added_again() -> None:
    netlink = RefusingSocket(errno.EEXIST)
    elements.add_timed(netlink, iter(WANTED), "test")
    [_, again] = netlink.sent
    assert again == [*elements.timed_requests(*WANTED[0]), *elements.timed_requests(*WANTED[1])]


def test_another_refusal_is_raised() -> None:
    netlink = RefusingSocket(errno.ENFILE)
    with pytest.raises(KernelError) as raised:
        elements.add_timed(netlink, WANTED, "test")
    assert raised.value.code == errno.ENFILE
    assert len(netlink.sent) == 1


@pytest.mark.usefixtures("table")
def test_an_added_element_that_exists_is_given_the_new_timeout(namespace: Namespace) -> None:
    key = bytes((192, 0, 2, 1))
    with namespace.call(NfnetlinkSocket) as netlink:
        for number, timeout in enumerate((600.0, 60.0, 0.0), 2):
            new = bytes((192, 0, 2, number))
            elements.add_timed(netlink, [("cut4", key, timeout), ("cut4", new, 5.0)], "test")
            found = [elements.get(netlink, "cut4", each) for each in (key, new)]
            assert [element and element.timeout for element in found] == [timeout, 5.0]


@pytest.mark.serial
@pytest.mark.usefixtures("table")
def test_closing_a_socket_does_not_wait_for_what_a_block_left(namespace: Namespace) -> None:
    def seconds(number: int) -> float:
        closed = NfnetlinkSocket()
        elements.add_timed(netlink, [("block4", bytes((192, 0, 2, number)), 600.0)], "test")
        begin = time.perf_counter()
        closed.close()
        return time.perf_counter() - begin

    with namespace.call(NfnetlinkSocket) as netlink:
        shortest = namespace.call(lambda: min(map(seconds, range(20))))
    assert shortest < 0.002  # with a deletion among the requests 8 ms and more


def test_without_a_table_the_kernel_s_error_is_raised(namespace: Namespace, bare: Table) -> None:
    with namespace.call(NfnetlinkSocket) as netlink, pytest.raises(KernelError):
        list(elements.dump(netlink, "cut4"))


# --- by many keys

KEYS = [number.to_bytes(4) for number in range(1, 2 * elements.KEYS_PER_DATAGRAM)]


@pytest.mark.usefixtures("table")
def test_the_keys_that_are_there_have_their_values(netlink: NfnetlinkSocket) -> None:
    there = dict.fromkeys(KEYS[::2], Lifetime(600.0, 500.0))
    block_sets.add_elements(netlink, "cut4", there)
    pauses: list[int] = []
    found = list(elements.ask_each(netlink, "cut4", KEYS, lambda: pauses.append(1)))
    assert [values[0] for values in found] == KEYS[::2]
    assert {(values[1], values[3:]) for values in found} == {(600_000, (0, 0))}
    assert all(490_000 < values[2] <= 500_000 for values in found)
    assert len(pauses) == 2


@pytest.mark.usefixtures("bare")
def test_without_a_table_nothing_is_there(netlink: NfnetlinkSocket) -> None:
    assert list(elements.ask_each(netlink, "cut4", KEYS[:1])) == []


@pytest.mark.usefixtures("table")
def test_a_refused_key_is_an_error(netlink: NfnetlinkSocket) -> None:
    with pytest.raises(KernelError):
        list(elements.ask_each(netlink, "cut4", [bytes(16)]))
