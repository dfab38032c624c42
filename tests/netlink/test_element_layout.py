"""Elements of a dump are read by their layout as they are read one by one."""

import pytest

from sentryfw.netlink import nftables as nl
from sentryfw.netlink.element_layout import ElementLayout
from sentryfw.netlink.message import attribute
from sentryfw.netlink.set_elements import Lifetime, packed_element


@pytest.mark.parametrize("size", [4, 16, 40])
def test_timed_elements_without_a_counter_are_read(size: int) -> None:
    keys = [bytes([number]) * size for number in range(1, 4)]
    payload = b"".join(packed_element(key, Lifetime(60, 5 * n)) for n, key in enumerate(keys, 1))
    layout = ElementLayout.of(payload)
    assert layout is not None
    assert layout.fits(payload)
    assert list(layout.values(payload)) == [
        (key, 60_000, 5_000 * n, 0, 0) for n, key in enumerate(keys, 1)
    ]


def test_elements_of_another_layout_do_not_fit() -> None:
    timed = packed_element(bytes(4), Lifetime(60, 5))
    permanent = packed_element(bytes(4), Lifetime(0, 0))
    layout = ElementLayout.of(timed)
    assert layout is not None
    assert not layout.fits(timed + permanent)
    assert not layout.fits(packed_element(bytes(16), Lifetime(60, 5)))


def test_an_element_without_a_timeout_of_its_own_is_read() -> None:
    """The kernel reports none where it is the set's."""
    key = nl.nested(nl.NFTA_SET_ELEM_KEY, attribute(nl.NFTA_DATA_VALUE, b"\1\2\3\4"))
    element = nl.nested(nl.NFTA_LIST_ELEM, key + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, 5_000))
    layout = ElementLayout.of(element)
    assert layout is not None
    assert list(layout.values(element * 2)) == [(b"\1\2\3\4", 0, 5_000, 0, 0)] * 2


def test_only_timed_elements_have_a_layout() -> None:
    flag = nl.u32(nl.NFTA_SET_ELEM_FLAGS, nl.NFT_SET_ELEM_INTERVAL_END)
    end = packed_element(bytes(4), Lifetime(60, 5))[4:] + flag
    for payload in (
        b"", b"\xff", packed_element(bytes(4), Lifetime(0, 0)), attribute(nl.NFTA_LIST_ELEM, end),
    ):  # fmt: skip
        assert ElementLayout.of(payload) is None
