"""Listed ports of which a source opened many, as the kernel's sets hold them."""

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.netfilter.sets.opened import read_broad
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


@pytest.mark.parametrize(
    ("address", "key", "family"),
    [
        ("192.0.2.1", "192.0.2.1", 4),
        ("2001:db8:0:1::/64", "2001:db8:0:1::", 6),
        ("fe80::1", "fe80::1", 6),
    ],
)
def test_what_a_source_opened_is_read_with_what_it_sent_data_to(
    namespace: Namespace,
    table: Table,
    netlink: NfnetlinkSocket,
    address: str,
    key: str,
    family: int,
) -> None:
    assert table
    assert read_broad(netlink) == {}
    for name, port in ((f"broad{family}", 443), (f"broad{family}", 80), (f"talked{family}", 80)):
        done = namespace.run(
            "nft", "add", "element", "inet", "sentryfw", name, f"{{ {key} . {port} }}"
        )
        assert done.returncode == 0, done.stderr
    [(source, opened)] = read_broad(netlink).items()
    assert source == parse_source(address)
    assert sorted((o.port, o.has_talked) for o in opened) == [(80, True), (443, False)]
    assert all(0 <= o.age < 60 for o in opened)
