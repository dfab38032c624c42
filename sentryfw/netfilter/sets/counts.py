"""Count the elements of a set."""

from typing import Final

from sentryfw.netfilter.schema import TABLE
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.socket import NfnetlinkSocket

MAX_EXACT_COUNT: Final = 4096
"""Elements up to which a set is dumped to be counted."""


def reported_count(netlink: NfnetlinkSocket, name: str) -> int | None:
    """Return the kernel's own count of a set's elements; None if the kernel does not report it.

    Expired elements count until the kernel collects them.
    """
    body = nl.text(nl.NFTA_SET_TABLE, TABLE) + nl.text(nl.NFTA_SET_NAME, name)
    return next(map(nl.set_count, netlink.request(nl.NFT_MSG_GETSET, body, f"set {name}")), None)


def element_count(netlink: NfnetlinkSocket, name: str) -> int:
    """Count the elements of a set: exactly by a dump, which grows with the square of the size."""
    count = reported_count(netlink, name)
    if count is not None and count > MAX_EXACT_COUNT:
        return count
    dump = netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), "count")
    return sum(map(set_elements.count_elements, dump))
