"""Notifications of nf_tables: what others did to our table, and who; nothing of the rest."""

import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config import Config
from sentryfw.engine.model import parse_source
from sentryfw.netfilter import bulk
from sentryfw.netfilter import monitor as module
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.install import install
from sentryfw.netfilter.monitor import Change, Monitor
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import Table
from sentryfw.netns import Namespace
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

ADDRESS = "198.51.100.1"


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    """Our table, installed."""
    made = namespace.call(Table)
    namespace.call(lambda: install(made, Config(), []))
    yield made
    made.close()


@pytest.fixture
def monitor(namespace: Namespace, table: Table) -> Iterator[Monitor]:
    made = namespace.call(lambda: Monitor(lambda: (table.port,)))
    yield made
    made.close()


def _nft(namespace: Namespace, command: str) -> None:
    done = namespace.run("nft", command)
    assert done.returncode == 0, done.stderr


def _changes(monitor: Monitor, count: int = 1) -> list[Change]:
    found: list[Change] = []
    wait_for(lambda: found.extend(monitor.read()) or len(found) >= count, "a change")  # type: ignore[func-returns-value]
    return found


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        ("flush ruleset", {"table", "chain", "rule", "set", "counter"}),
        ("delete table inet sentryfw", {"table", "chain", "rule", "set", "counter"}),
        ("flush chain inet sentryfw judge", {"rule"}),
        ("flush table inet sentryfw; delete set inet sentryfw block4", {"rule", "set"}),
        ("flush table inet sentryfw; delete chain inet sentryfw early_drop", {"rule", "chain"}),
    ],
)
def test_what_was_taken_and_by_whom(
    namespace: Namespace, monitor: Monitor, command: str, taken: set[str]
) -> None:
    _nft(namespace, command)
    [change] = _changes(monitor)
    assert change.taken >= taken
    assert change.process == "nft"
    assert change.culprit == f"nft (pid {change.pid})"


def test_elements_that_come_and_go_are_told_in_their_order(
    namespace: Namespace, monitor: Monitor
) -> None:
    element = f"element inet sentryfw block4 {{ {ADDRESS} timeout 1h }}"
    _nft(namespace, f"add {element}; delete {element}; add {element}")
    [change] = _changes(monitor)
    assert [item.present for item in change.items] == [True, False, True]
    assert {item.set for item in change.items} == {"block4"}
    assert {item.element.key for item in change.items} == {bytes((198, 51, 100, 1))}
    assert change.items[-1].element.timeout == 3600
    assert not change.taken


def test_what_we_did_ourselves_is_not_told(
    namespace: Namespace, monitor: Monitor, table: Table
) -> None:
    table.block([(parse_source(ADDRESS), 60.0)])
    table.unblock(parse_source(ADDRESS))
    _nft(namespace, f"add element inet sentryfw block4 {{ {ADDRESS} }}")
    [change] = _changes(monitor)
    assert change.process == "nft"


def test_other_tables_are_not_told(namespace: Namespace, monitor: Monitor) -> None:
    _nft(namespace, "add table inet other; add set inet other block4 { type ipv4_addr; }")
    _nft(namespace, "add table ip sentryfw; add chain ip sentryfw judge")
    _nft(namespace, "add table inet sentryfw2; delete table inet sentryfw2")
    _nft(namespace, f"add element inet other block4 {{ {ADDRESS} }}; delete table inet other")
    _nft(namespace, "flush chain inet sentryfw judge")
    [change] = _changes(monitor)
    assert change.taken == {"rule"}


def test_an_overrun_is_told_and_what_follows_too(
    namespace: Namespace, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    del monkeypatch
    _nft(namespace, "add table inet other; add set inet other s { type ipv4_addr; }")
    netlink = namespace.call(NfnetlinkSocket)
    netlink.grow(bulk.BUFFER)
    for part in range(4):
        numbers = range(part * 100_000, (part + 1) * 100_000)
        keys = ((n.to_bytes(4), bulk.Life(0.0, 0.0)) for n in numbers)
        ours, theirs = nl.set_name("sentryfw", "s"), nl.set_name("other", "s")
        bodies = [b.replace(ours, theirs, 1) for _, _, b in bulk.element_messages("s", keys)]
        netlink.transact([(nl.NFT_MSG_NEWSETELEM, nl.NLM_F_CREATE, b) for b in bodies], "flood")
    netlink.close()
    found: list[Change] = []
    wait_for(lambda: found.extend(monitor.read()) or found, "the overrun")  # type: ignore[func-returns-value]
    assert found[0].overrun
    assert monitor.overruns == 1
    while monitor.read():
        pass
    monitor.drain()
    _nft(namespace, "flush chain inet sentryfw judge")
    assert _changes(monitor)[0].taken == {"rule"}


def test_a_wake_up_reads_a_bounded_number_of_datagrams(
    namespace: Namespace, monitor: Monitor
) -> None:
    for _ in range(4):
        _nft(namespace, "add table inet other; delete table inet other")
    _nft(namespace, "flush ruleset")
    time.sleep(0.01)
    assert monitor.read(2) == []
    assert _changes(monitor)[0].taken >= {"table"}


def test_deaf_it_hears_nothing_and_then_again(namespace: Namespace, monitor: Monitor) -> None:
    with monitor.deaf():
        _nft(namespace, f"add element inet sentryfw block4 {{ {ADDRESS} timeout 1h }}")
    _nft(namespace, f"delete element inet sentryfw block4 {{ {ADDRESS} }}")
    [change] = _changes(monitor)
    assert [item.present for item in change.items] == [False]


# --- bytes


def _message(kind: int, body: bytes, *, port: int = 7, family: int = 1) -> bytes:
    header = struct.pack("=IHHII", 20 + len(body), nl.NFNL_SUBSYS_NFTABLES << 8 | kind, 0, 0, port)
    return header + bytes((family, 0, 0, 0)) + body


@pytest.fixture
def deaf(namespace: Namespace) -> Iterator[Monitor]:
    made = namespace.call(lambda: Monitor(tuple))
    yield made
    made.close()


def test_a_process_name_cannot_carry_terminal_codes(deaf: Monitor) -> None:
    name = nl.text(module.NFTA_GEN_PROC_NAME, "\x1b]0;x\x07nft\n")
    generation = nl.u32(module.NFTA_GEN_PROC_PID, 5) + name
    deletion = _message(nl.NFT_MSG_DELTABLE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw"))
    [change] = deaf.changes(deletion + _message(module.NFT_MSG_NEWGEN, generation, family=0))
    assert change.process == "?]0;x?nft?"
    assert change.pid == 5


def test_a_transaction_may_come_in_parts(deaf: Monitor) -> None:
    deletion = _message(nl.NFT_MSG_DELTABLE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw"))
    assert deaf.changes(deletion) == []
    [change] = deaf.changes(_message(module.NFT_MSG_NEWGEN, b"", family=0))
    assert change.taken == {"table"}
    assert deaf.changes(_message(module.NFT_MSG_NEWGEN, b"", family=0)) == []


def test_more_elements_than_are_noted_are_an_overrun(
    deaf: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_NOTED", 2)
    deletion = _message(nl.NFT_MSG_DELSETELEM, nl.set_element("sentryfw", "block4", bytes(4)))
    [change] = deaf.changes(deletion * 3 + _message(module.NFT_MSG_NEWGEN, b"", family=0))
    assert change.overrun
    assert len(change.items) == 2


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    monitor = Monitor.__new__(Monitor)
    monitor._pending = module._Pending()
    try:
        monitor.changes(data)
    except nl.MalformedMessage:
        return
