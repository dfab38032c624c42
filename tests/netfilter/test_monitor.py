"""Notifications of nf_tables: changes to our table, by other processes only."""

import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.netfilter import block_sets
from sentryfw.netfilter import monitor as module
from sentryfw.netfilter.install import install
from sentryfw.netfilter.monitor import Monitor, TableChange, TransactionReader
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.table import Table
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
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


def _changes(monitor: Monitor, count: int = 1) -> list[TableChange]:
    found: list[TableChange] = []
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
def test_deletions_are_reported_with_their_process(
    namespace: Namespace, monitor: Monitor, command: str, taken: set[str]
) -> None:
    _nft(namespace, command)
    [change] = _changes(monitor)
    assert change.taken >= taken
    assert change.process == "nft"
    assert change.culprit == f"nft (pid {change.pid})"


def test_added_and_deleted_elements_are_reported_in_order(
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


def test_our_own_changes_are_not_reported(
    namespace: Namespace, monitor: Monitor, table: Table
) -> None:
    table.sets.block([(parse_source(ADDRESS), 60.0)])
    table.sets.unblock(parse_source(ADDRESS))
    _nft(namespace, f"add element inet sentryfw block4 {{ {ADDRESS} }}")
    [change] = _changes(monitor)
    assert change.process == "nft"


def test_changes_to_other_tables_are_not_reported(namespace: Namespace, monitor: Monitor) -> None:
    _nft(namespace, "add table inet other; add set inet other block4 { type ipv4_addr; }")
    _nft(namespace, "add table ip sentryfw; add chain ip sentryfw judge")
    _nft(namespace, "add table inet sentryfw2; delete table inet sentryfw2")
    _nft(namespace, f"add element inet other block4 {{ {ADDRESS} }}; delete table inet other")
    _nft(namespace, "flush chain inet sentryfw judge")
    [change] = _changes(monitor)
    assert change.taken == {"rule"}


def test_the_table_that_switches_off_is_reported(namespace: Namespace, monitor: Monitor) -> None:
    _nft(namespace, "add table ip sentryfw-off; add table inet sentryfw-off2")
    _nft(namespace, "add table inet sentryfw-off")
    _nft(namespace, "delete table inet sentryfw-off")
    [change] = _changes(monitor)
    assert change.switched_off
    assert (change.taken, change.made, change.items) == (frozenset(), False, ())


def test_an_overrun_is_reported_and_later_changes_too(
    namespace: Namespace, monitor: Monitor
) -> None:
    _nft(namespace, "add table inet other; add set inet other s { type ipv4_addr; }")
    netlink = namespace.call(NfnetlinkSocket)
    netlink.grow(elements.TRANSACTION_BUFFER_BYTES)
    for part in range(4):
        numbers = range(part * 100_000, (part + 1) * 100_000)
        keys = ((n.to_bytes(4), Lifetime(0.0, 0.0)) for n in numbers)
        ours, theirs = nl.set_name("sentryfw", "s"), nl.set_name("other", "s")
        bodies = [b.replace(ours, theirs, 1) for _, _, b in block_sets.element_requests("s", keys)]
        netlink.transact([(nl.NFT_MSG_NEWSETELEM, nlmsg.NLM_F_CREATE, b) for b in bodies], "flood")
    netlink.close()
    found: list[TableChange] = []
    wait_for(lambda: found.extend(monitor.read()) or found, "the overrun")  # type: ignore[func-returns-value]
    assert found[0].overrun
    assert monitor.overruns == 1
    while monitor.read():
        pass
    monitor.drain()
    _nft(namespace, "flush chain inet sentryfw judge")
    assert _changes(monitor)[0].taken == {"rule"}


def test_one_read_is_bounded_by_its_budget(namespace: Namespace, monitor: Monitor) -> None:
    for _ in range(4):
        _nft(namespace, "add table inet other; delete table inet other")
    _nft(namespace, "flush ruleset")
    time.sleep(0.01)
    assert monitor.read(2) == []
    assert _changes(monitor)[0].taken >= {"table"}


def test_a_muted_monitor_receives_nothing_until_the_context_ends(
    namespace: Namespace, monitor: Monitor
) -> None:
    with monitor.muted():
        _nft(namespace, f"add element inet sentryfw block4 {{ {ADDRESS} timeout 1h }}")
    _nft(namespace, f"delete element inet sentryfw block4 {{ {ADDRESS} }}")
    [change] = _changes(monitor)
    assert [item.present for item in change.items] == [False]


# --- bytes


def _message(kind: int, body: bytes, *, port: int = 7, family: int = 1) -> bytes:
    header = struct.pack("=IHHII", 20 + len(body), nl.NFNL_SUBSYS_NFTABLES << 8 | kind, 0, 0, port)
    return header + bytes((family, 0, 0, 0)) + body


def test_terminal_codes_in_a_process_name_are_replaced() -> None:
    reader = TransactionReader()
    name = nl.text(nl.NFTA_GEN_PROC_NAME, "\x1b]0;x\x07nft\n")
    generation = nl.u32(nl.NFTA_GEN_PROC_PID, 5) + name
    deletion = _message(nl.NFT_MSG_DELTABLE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw"))
    [change] = reader.read(deletion + _message(nl.NFT_MSG_NEWGEN, generation, family=0))
    assert change.process == "?]0;x?nft?"
    assert change.pid == 5


def test_a_transaction_may_arrive_in_parts() -> None:
    reader = TransactionReader()
    deletion = _message(nl.NFT_MSG_DELTABLE, nl.text(nl.NFTA_TABLE_NAME, "sentryfw"))
    assert reader.read(deletion) == []
    [change] = reader.read(_message(nl.NFT_MSG_NEWGEN, b"", family=0))
    assert change.taken == {"table"}
    assert reader.read(_message(nl.NFT_MSG_NEWGEN, b"", family=0)) == []


def test_elements_beyond_the_limit_count_as_an_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRANSACTION_ELEMENTS", 2)
    reader = TransactionReader()
    body = set_elements.set_element("sentryfw", "block4", bytes(4))
    deletion = _message(nl.NFT_MSG_DELSETELEM, body)
    [change] = reader.read(deletion * 3 + _message(nl.NFT_MSG_NEWGEN, b"", family=0))
    assert change.overrun
    assert len(change.items) == 2


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    reader = TransactionReader()
    try:
        assert all(change.process.isprintable() for change in reader.read(data))
    except nlmsg.MalformedMessage:
        return
