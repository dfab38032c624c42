"""Elements by key, in the kernel's sets."""

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.errors import KernelError
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.table import Table
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


def test_without_a_table_the_kernel_s_error_is_raised(namespace: Namespace, bare: Table) -> None:
    with namespace.call(NfnetlinkSocket) as netlink, pytest.raises(KernelError):
        list(elements.dump(netlink, "cut4"))
