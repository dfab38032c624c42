"""The lifetimes of blocks in a real kernel."""

from collections.abc import Callable

from sentryfw.netfilter.sets import elements
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket


def find_lifetimes(
    netlink: NfnetlinkSocket, name: str, keys: list[bytes], pause: Callable[[], object] = bool
) -> dict[bytes, Lifetime]:
    """Return the lifetimes of those keys that are in a set; `pause`: see elements.ask_each()."""
    return {
        key: Lifetime(timeout / 1000, left / 1000)
        for key, timeout, left, _, _ in elements.ask_each(netlink, name, keys, pause)
    }
