"""Whole sets, although other programs change them while they are read.

The kernel sends a large set in several messages and finds the place to go on by counting. A
transaction in between moves elements, so a dump then lacks some and has others twice, and the
kernel marks it by nothing but another generation in the later messages.
"""

import time
from collections.abc import Callable
from typing import Final

from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.sets.counts import reported_count
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import Message
from sentryfw.netlink.set_elements import Element, ElementReader, element_of
from sentryfw.netlink.socket import NfnetlinkSocket

MAX_DUMPS: Final = 3
MAX_DUMP_S: Final = 5.0
"""Seconds of dumps after which an interrupted one is not repeated."""

Warn = Callable[[str], object]


def read_dump(netlink: NfnetlinkSocket, name: str) -> tuple[list[Element], bool]:
    """Return the elements of one dump, and whether no transaction came between its messages."""
    reader = ElementReader()
    found: list[Element] = []
    generations = set()
    for reply in netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}"):
        generations.add(generation(reply))
        found += reader.read(reply)
    return found, len(generations) <= 1


def read_intervals(netlink: NfnetlinkSocket, name: str) -> list[Element]:
    """Return the elements of an interval set, of the last dump if each was interrupted."""
    for _ in range(MAX_DUMPS):
        found, is_whole = read_dump(netlink, name)
        if is_whole:
            break
    return found


def read_elements(netlink: NfnetlinkSocket, name: str, warn: Warn) -> list[Element]:
    """Return the elements of a set with keys of 4 or 16 bytes, each once.

    Of interrupted dumps each adds what the others lack, and what they found is asked for by key.
    `warn` is called where some may be missing all the same.
    """
    together: dict[bytes, None] = {}
    give_up_at = time.monotonic() + MAX_DUMP_S
    for _ in range(MAX_DUMPS):
        found, is_whole = read_dump(netlink, name)
        if is_whole:
            return found
        together.update(dict.fromkeys(element.key for element in found))
        if time.monotonic() > give_up_at:
            break
    there = [element_of(values) for values in elements.ask_each(netlink, name, list(together))]
    count = reported_count(netlink, name)
    if count is None or count > len(there):
        shown = "its" if count is None else f"{count:,}"
        warn(
            f"set {name} changed each time it was read: of {shown} elements {len(there):,} are"
            " listed; the others have ended, or are missing"
        )
    return there


def generation(reply: Message) -> bytes:
    """Return res_id of struct nfgenmsg, in which nf_tables counts its transactions."""
    return reply.body[2:4]
