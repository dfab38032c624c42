"""The lab: when a change first named a source."""

import struct

from bench.lab import first_changes
from sentryfw.netfilter.schema import TABLE
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import set_element


def change(at: int, key: bytes) -> bytes:
    """Return a notification of an element of block4, as bench/c/watch.c records it."""
    part = nl.nft(nl.NFT_MSG_NEWSETELEM, set_element(TABLE, "block4", key, 600.0), sequence=1)
    return struct.pack("=QI", at, len(part)) + part


def test_a_source_is_found_in_the_first_change_that_names_it() -> None:
    data = change(10, bytes((192, 0, 2, 1))) + change(20, bytes((11, 0, 2, 0)))
    data += change(30, bytes((192, 0, 2, 1)))
    found = first_changes(data, ["192.0.2.1", "11.0.2.0", "192.0.2.2"])
    assert found == {"192.0.2.1": 10, "11.0.2.0": 20}
