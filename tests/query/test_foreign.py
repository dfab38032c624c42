"""Words of members; in whole answers: test_explain.py, test_blocks.py."""

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

from sentryfw.engine.model import parse_source
from sentryfw.netlink.set_elements import Element
from sentryfw.query import foreign
from sentryfw.record.fleet.held import Held

ROW = Held(
    member="fw1", address="192.0.2.7", effect="block", evidence="forgeable", scan="portscan",
    reason="why", seq=1, at=0.0, ends_at=None,
)  # fmt: skip
ELEMENT = Element(b"\xc0\x00\x02\x00", 0.0, 0.0, 1, 2)


def _table() -> Any:
    network = ip_network("192.0.2.0/24")
    return SimpleNamespace(
        decisions=SimpleNamespace(find_of_fleet=lambda _: ELEMENT),
        mirror=SimpleNamespace(networks=lambda: iter([(network, ELEMENT)])),
    )


def test_words_name_the_member_and_evidence_that_can_be_doubted() -> None:
    assert foreign.words(ROW) == "fw1 (forgeable): why"
    assert foreign.words(ROW._replace(evidence="hand")) == "fw1: why"
    assert foreign.because([ROW._replace(effect="show")], is_blocked=False) == ""
    assert foreign.items([ROW])[0]["ends_at"] is None


def test_a_network_is_found_by_its_name() -> None:
    found = foreign.find(_table(), "192.0.2.0/24", None)
    assert found is not None
    assert (found.address, found.packets) == ("192.0.2.0/24", 1)
    assert foreign.find(_table(), "192.0.2.0/25", None) is None
    assert foreign.find(_table(), "192.0.2.0", parse_source("192.0.2.0")) is not None
