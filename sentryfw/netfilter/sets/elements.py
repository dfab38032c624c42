"""Elements of the table's sets by key: read, delete, give a timeout."""

import errno
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from sentryfw.engine.model import ARPHRD_ETHER, Source
from sentryfw.errors import KernelError
from sentryfw.netfilter.schema import TABLE
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.element_layout import Values
from sentryfw.netlink.message import NLM_F_CREATE, NLM_F_EXCL
from sentryfw.netlink.nfqueue import ETH_ALEN
from sentryfw.netlink.set_elements import PERMANENT, Element, ElementReader, Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket

KEY6_BYTES: Final = 16
SHORT_S: Final = 1.0
"""Timeout of an element that the same transaction deletes."""
KEYS_PER_DATAGRAM: Final = 256
"""Keys that are asked for in one datagram."""
TRANSACTION_BUFFER_BYTES: Final = 128 << 20
"""Socket buffer for a transaction, which is one datagram: a million elements of 44 bytes fit."""

TimedElement = tuple[str, bytes, float]
"""The set's name, the key, and the timeout in seconds; 0: none."""


def key_of(source: Source) -> bytes:
    """Return the key of a source in the sets: 4 bytes, or 16 with a /64's zero identifier."""
    return bytes(source) if len(source) == 4 else bytes(source).ljust(KEY6_BYTES, b"\0")


def key_of_place(place: bytes) -> bytes:
    """Return the key of an address or prefix, 4 or 16 bytes, the rest of them 0, or of a hardware
    address (model.DistributedScan), 6 bytes."""
    if len(place) == len(ARPHRD_ETHER) + ETH_ALEN:
        return place[len(ARPHRD_ETHER) :]
    return place.ljust(4 if len(place) < 6 else KEY6_BYTES, b"\0")


def timed_requests(name: str, key: bytes, timeout: float) -> list[nl.NftRequest]:
    """Return the requests that give a set an element with a timeout in seconds (0: none).

    add, delete, add: the element ends with the new timeout, whether it existed or not, also on
    kernels that keep the old timeout of an element added again (before 6.12).
    """
    plain = set_elements.set_element(TABLE, name, key)
    timed = set_elements.set_element(TABLE, name, key, timeout or None)
    return [
        (nl.NFT_MSG_NEWSETELEM, NLM_F_CREATE, timed),
        (nl.NFT_MSG_DELSETELEM, 0, plain),
        (nl.NFT_MSG_NEWSETELEM, NLM_F_CREATE, timed),
    ]


def add_timed(netlink: NfnetlinkSocket, wanted: Iterable[TimedElement], what: str) -> None:
    """Give sets elements with timeouts, in one transaction; return when it is acknowledged.

    The elements are expected to be new. A transaction that deletes leaves the kernel work for which
    the next program that closes a netfilter socket waits with all transactions locked out: 8 to 90
    ms, and so would the next block (decisions.md: blocks-only-add).
    """
    parts = list(wanted)
    added = [
        (
            nl.NFT_MSG_NEWSETELEM,
            NLM_F_CREATE | NLM_F_EXCL,
            set_elements.set_element(TABLE, name, key, timeout or None),
        )
        for name, key, timeout in parts
    ]
    try:
        netlink.transact(added, what)
    except KernelError as error:
        if error.code != errno.EEXIST:
            raise
        again = [timed_requests(name, key, timeout) for name, key, timeout in parts]
        netlink.transact(list(itertools.chain(*again)), what)


def replacements(
    name: str, timeouts: Mapping[bytes, float], old: Collection[bytes]
) -> list[nl.NftRequest]:
    """Return the requests after which a set holds these elements (seconds; 0: without end), and of
    the keys in `old` no others: a few for many elements.

    Those in `old` are added before they are deleted, as in timed_requests(): one may have ended.
    """
    timed = {key: _packed(key, timeout) for key, timeout in timeouts.items()}
    again = [timed.get(key) or _packed(key, SHORT_S) for key in old]
    gone = [set_elements.packed_element(key, PERMANENT) for key in old]
    new, delete_all = set_elements.new_elements, set_elements.old_elements
    return [
        change(TABLE, name, payload)
        for change, packed in ((new, again), (delete_all, gone), (new, timed.values()))
        for payload in set_elements.payloads(packed)
    ]


def _packed(key: bytes, timeout: float) -> bytes:
    return set_elements.packed_element(key, Lifetime(timeout, timeout))


def get(netlink: NfnetlinkSocket, name: str, key: bytes) -> Element | None:
    """Return the element of a set; None if it does not exist."""
    body = set_elements.set_element(TABLE, name, key)
    try:
        replies = list(netlink.request(nl.NFT_MSG_GETSETELEM, body, "get element"))
    except KernelError as error:
        if error.code == errno.ENOENT:
            return None
        raise
    return next((element for reply in replies for element in set_elements.elements_of(reply)), None)


def ask_each(
    netlink: NfnetlinkSocket, name: str, keys: list[bytes], pause: Callable[[], object] = bool
) -> Iterator[Values]:
    """Yield the values of each key that is in a set; `pause` is called after each datagram.

    See docs/decisions.md: key-lookups.
    """
    netlink.grow(TRANSACTION_BUFFER_BYTES)
    reader = ElementReader()
    for low in range(0, len(keys), KEYS_PER_DATAGRAM):
        yield from reader.read_answers(_answers(netlink, name, keys[low : low + KEYS_PER_DATAGRAM]))
        pause()


def _answers(netlink: NfnetlinkSocket, name: str, keys: list[bytes]) -> list[bytes]:
    """Return the kernel's answers about those keys that are in a set, in the order of the keys.

    One message asks for all of them, which takes the kernel half as long as a message for each. It
    is answered up to the first key that is not there; those behind it get a message each.
    """
    start, what = nl.set_name(TABLE, name), f"elements of {name}"
    listed = start + set_elements.key_list(keys)
    answers = netlink.ask_all(nl.NFT_MSG_GETSETELEM, listed, len(keys), what)
    rest = keys[len(answers) + 1 :]
    if rest:
        queries = set_elements.key_queries(rest)
        answers += filter(None, netlink.ask_each(nl.NFT_MSG_GETSETELEM, start, queries, what))
    return answers


def existing(netlink: NfnetlinkSocket, name: str, keys: list[bytes]) -> set[bytes]:
    """Return those of these keys that are in a set."""
    return {values[0] for values in ask_each(netlink, name, keys)}


def delete(netlink: NfnetlinkSocket, name: str, key: bytes) -> bool:
    """Delete the element of a set; return whether it existed."""
    request = nl.NFT_MSG_DELSETELEM, 0, set_elements.set_element(TABLE, name, key)
    try:
        netlink.transact([request], f"delete element from {name}")
    except KernelError as error:
        if error.code != errno.ENOENT:
            raise
        return False
    return True


def dump(netlink: NfnetlinkSocket, name: str) -> Iterator[list[Element]]:
    """Yield the elements of a set, a list for each message of the kernel."""
    reader = ElementReader()
    for reply in netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}"):
        yield reader.read(reply)
