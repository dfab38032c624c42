"""One suite for `Table` and `BlockSets`: on the fake of support/fake_table.py, and on the kernel.

A test that passes on one side only shows where the fake is wrong.
"""

import errno
import inspect
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Final, Protocol, TypeVar

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import KernelError, NotFound, NotInstalled, SentryError, UsageError
from sentryfw.netfilter import queue_rule, schema
from sentryfw.netfilter.block_sets import Blocked, BlockSets
from sentryfw.netfilter.install import install
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.tools.drill.namespace import Namespace
from support.fake_table import FakeBlockSets, FakeKernel, FakeTable
from support.forge import networks

T = TypeVar("T")

FOUR, SIX, LINK_LOCAL = "198.18.0.2", "2001:2:0:1::/64", "fe80::1"
SOURCES: Final = (FOUR, SIX, LINK_LOCAL)
NET4, NET6 = ip_network("203.0.113.0/24"), ip_network("2001:db8::/48")
RULE: Final = nl.queue_target_rule(schema.TABLE, queue_rule.CHAIN, 7, "a test's")
SMALL: Final = """
table inet sentryfw {
  comment "SentryFW schema 1"
  set block4 { type ipv4_addr; size 2; flags timeout; counter; }
  set block6 { type ipv6_addr; size 2; flags timeout; counter; }
}
"""
"""A table whose sets are full with two elements."""


class Side(Protocol):
    """The two tables that the suite runs on."""

    table: Table

    def install(self) -> None: ...
    def install_small(self) -> None: ...
    def install_foreign(self) -> None: ...
    def add(self, name: str, address: str) -> None: ...
    def sleep(self, seconds: float) -> None: ...
    def call(self, function: Callable[[], T]) -> T: ...


class FakeSide:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.table: Table = FakeTable(self.kernel)

    def install(self) -> None:
        self.kernel.install()

    def install_small(self) -> None:
        self.kernel.install(size=2)

    def install_foreign(self) -> None:
        self.kernel.install(comment="")

    def add(self, name: str, address: str) -> None:
        self.kernel.add(name, address)

    def sleep(self, seconds: float) -> None:
        self.kernel.advance(seconds)

    def call(self, function: Callable[[], T]) -> T:
        return function()


class KernelSide:
    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.table = namespace.call(Table)

    def install(self) -> None:
        self.call(lambda: install(self.table, Config(), []))

    def install_small(self) -> None:
        self._nft(SMALL)

    def install_foreign(self) -> None:
        self._nft("add table inet sentryfw")

    def add(self, name: str, address: str) -> None:
        family = 6 if ":" in address else 4
        bare = address.removesuffix("/64")
        self._nft(f"add element inet sentryfw {name}{family} {{ {bare} timeout 1m }}")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def call(self, function: Callable[[], T]) -> T:
        return self._namespace.call(function)

    def _nft(self, command: str) -> None:
        done = self._namespace.run("nft", command)
        assert done.returncode == 0, done.stderr


@pytest.fixture(params=["fake", pytest.param("kernel", marks=pytest.mark.netns)])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "fake":
        yield FakeSide()
        return
    made = KernelSide(request.getfixturevalue("namespace"))
    yield made
    made.table.close()


@pytest.fixture
def sets(side: Side) -> BlockSets:
    """The sets of an installed table."""
    side.install()
    return side.table.sets


def _addresses(side: Side) -> list[str]:
    return sorted(blocked.address for blocked in side.call(side.table.sets.blocks))


# --- the table


def test_without_a_table_require_names_the_command(side: Side) -> None:
    assert side.table.comment() is None
    assert not side.table.is_installed()
    with pytest.raises(NotInstalled, match="run `sentryfw install`"):
        side.table.require()


def test_an_installed_table_has_our_comment(side: Side) -> None:
    side.install()
    assert side.table.comment() == schema.COMMENT
    assert side.table.is_installed()
    side.table.require()


def test_a_foreign_table_is_refused(side: Side) -> None:
    side.install_foreign()
    assert side.table.comment() == ""
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        side.table.is_installed()


def test_the_counters_are_those_of_the_ruleset(side: Side) -> None:
    assert (side.table.counters(), side.table.counter("judged")) == ({}, None)
    side.install()
    counters = side.table.counters()
    assert sorted(counters) == [
        "asked", "backscatter", "blocked_early", "blocked_late", "blocked_prefix", "confined",
        "deferred", "fleet", "half_open", "held", "judged", "no_decoy", "over_limit", "over_quota",
        "over_source", "queued", "stray", "unjudged",
    ]  # fmt: skip
    assert set(counters.values()) == {(0, 0)}
    assert side.table.counter("judged") == (0, 0)
    assert side.table.counter("no such counter") is None


# --- rules


def test_a_rule_is_appended_replaced_and_deleted(side: Side) -> None:
    side.install()
    chain = queue_rule.CHAIN
    before = list(side.table.rule_expressions(chain))
    side.table.append_rule(RULE, "a rule")
    assert list(side.table.rule_expressions(chain)) == [*before, "target"]
    side.table.replace_rule(RULE, side.table.last_rule(chain), "a rule")
    assert list(side.table.rule_expressions(chain)) == [*before, "target"]
    side.table.delete_rule(chain, side.table.last_rule(chain))
    assert list(side.table.rule_expressions(chain)) == before


def test_a_rule_that_is_not_committed_is_not_there(side: Side) -> None:
    side.install()
    before = list(side.table.rule_expressions(queue_rule.CHAIN))
    side.table.append_rule(RULE, "a rule", commit=False)
    assert list(side.table.rule_expressions(queue_rule.CHAIN)) == before


def test_a_rule_that_is_gone_cannot_be_changed(side: Side) -> None:
    side.install()
    side.table.append_rule(RULE, "a rule")
    gone = side.table.last_rule(queue_rule.CHAIN)
    side.table.delete_rule(queue_rule.CHAIN, gone)
    for change in (
        lambda: side.table.delete_rule(queue_rule.CHAIN, gone),
        lambda: side.table.replace_rule(RULE, gone, "a rule"),
    ):
        with pytest.raises(KernelError) as raised:
            change()
        assert raised.value.code == errno.ENOENT


def test_a_rule_without_a_table_is_refused(side: Side) -> None:
    with pytest.raises(KernelError, match="a rule: No such file") as raised:
        side.table.append_rule(RULE, "a rule")
    assert raised.value.code == errno.ENOENT


def test_a_chain_without_rules_has_no_last_rule(side: Side) -> None:
    side.install()
    assert list(side.table.rule_expressions("no_such_chain")) == []
    with pytest.raises(SentryError, match="chain no_such_chain has no rule"):
        side.table.last_rule("no_such_chain")


# --- sources


@pytest.mark.parametrize("address", SOURCES)
def test_a_blocked_source_is_found_and_listed(sets: BlockSets, address: str) -> None:
    source = parse_source(address)
    assert not sets.is_blocked(source)
    assert sets.find(source) is None
    sets.block([(source, 600)])
    assert sets.is_blocked(source)
    [listed] = sets.blocked_sources()
    found = sets.find(source)
    for blocked in (listed, found):
        assert blocked is not None
        assert blocked[:3] == (address, 6 if ":" in address else 4, 600.0)
        assert 590 < blocked.expires <= 600
        assert blocked[4:] == (0, 0)


def test_blocks_are_found_by_many_keys_and_counted(sets: BlockSets) -> None:
    sets.block([(parse_source(address), 600) for address in SOURCES])
    keys = {4: [key_of(parse_source(FOUR)), b"\xc0\0\2\1"], 6: [key_of(parse_source(LINK_LOCAL))]}
    assert [
        (key, found.address, found.timeout)
        for family, asked in keys.items()
        for key, found in sets.find_all(family, asked).items()
    ] == [(keys[4][0], FOUR, 600.0), (keys[6][0], LINK_LOCAL, 600.0)]


@pytest.mark.parametrize(("first", "second"), [(600, 60), (60, 600)], ids=["shorter", "longer"])
def test_blocking_again_sets_the_new_timeout(sets: BlockSets, first: int, second: int) -> None:
    sets.block([(parse_source(FOUR), first)])
    sets.block([(parse_source(FOUR), second)])
    [blocked] = sets.blocked_sources()
    assert blocked.timeout == second
    assert second - 10 < blocked.expires <= second


def test_a_block_ends_with_its_timeout(side: Side, sets: BlockSets) -> None:
    sets.block([(parse_source(FOUR), 0.2), (parse_source(SIX), 60)])
    side.sleep(0.3)
    assert not sets.is_blocked(parse_source(FOUR))
    assert _addresses(side) == [SIX]


def test_a_timeout_is_a_millisecond_at_least(side: Side, sets: BlockSets) -> None:
    sets.block([(parse_source(FOUR), 0.0001)])
    side.sleep(0.1)
    assert _addresses(side) == []


@pytest.mark.parametrize("address", SOURCES)
def test_an_unblocked_source_is_not_suspect(side: Side, sets: BlockSets, address: str) -> None:
    source = parse_source(address)
    sets.block([(source, 600)])
    side.add("suspect", address)
    assert sets.is_suspect(source)
    sets.unblock(source)
    assert (sets.is_blocked(source), sets.is_suspect(source)) == (False, False)


@pytest.mark.parametrize("address", SOURCES)
def test_a_source_that_is_not_blocked_cannot_be_unblocked(sets: BlockSets, address: str) -> None:
    with pytest.raises(NotFound, match=f"^{address} is not blocked$"):
        sets.unblock(parse_source(address))


@pytest.mark.parametrize("address", SOURCES)
def test_suspects_and_partners_are_known(side: Side, sets: BlockSets, address: str) -> None:
    source = parse_source(address)
    assert (sets.is_suspect(source), sets.is_partner(source)) == (False, False)
    side.add("suspect", address)
    assert (sets.is_suspect(source), sets.is_partner(source)) == (True, False)
    side.add("partner", address)
    sets.clear_suspect(source)
    sets.clear_suspect(source)
    assert (sets.is_suspect(source), sets.is_partner(source)) == (False, True)
    others = {parse_source("192.0.2.99"), parse_source("2001:db8:99::/64")}
    assert sets.partners_among({source, *others}) == {source}
    assert sets.partners_among(others) == sets.partners_among(()) == set()


def test_a_full_set_takes_nothing_of_a_transaction(side: Side) -> None:
    side.install_small()
    sets = side.table.sets
    one, two, three = (parse_source(f"198.18.0.{n}") for n in (1, 2, 3))
    sets.block([(one, 600)])
    with pytest.raises(KernelError) as raised:
        sets.block([(two, 600), (three, 600)])
    assert (raised.value.code, raised.value.what) == (errno.ENFILE, "block")
    assert [blocked.address for blocked in sets.blocked_sources()] == ["198.18.0.1"]


def test_a_full_set_takes_a_new_timeout_of_what_it_holds(side: Side) -> None:
    side.install_small()
    sets = side.table.sets
    one, two, three = (parse_source(f"198.18.0.{n}") for n in (1, 2, 3))
    sets.block([(one, 600), (two, 600)])
    sets.block([(one, 60)])
    assert {b.address: b.timeout for b in sets.blocked_sources()} == {
        "198.18.0.1": 60,
        "198.18.0.2": 600,
    }
    with pytest.raises(KernelError):
        sets.block([(three, 600)])
    sets.block([(parse_source(SIX), 600)])


def test_without_a_table_no_source_is_blocked(side: Side) -> None:
    sets, source = side.table.sets, parse_source(FOUR)
    with pytest.raises(KernelError, match="block: No such file or directory") as raised:
        sets.block([(source, 600)])
    assert raised.value.code == errno.ENOENT
    assert sets.find(source) is None
    assert (sets.is_partner(source), sets.is_suspect(source)) == (False, False)
    sets.clear_suspect(source)
    with pytest.raises(NotFound):
        sets.unblock(source)
    for read in (sets.blocks, sets.count_blocked, sets.unblock_all, sets.never_blocked):
        with pytest.raises(KernelError) as raised:
            side.call(read)
        assert raised.value.code == errno.ENOENT


# --- networks


@pytest.mark.parametrize(
    "timeout", [600.0, 100_000.0, 315_360_000.0, 0.0], ids=["timed", "28h", "10 years", "forever"]
)
def test_a_blocked_network_is_listed(side: Side, sets: BlockSets, timeout: float) -> None:
    for network in (NET6, NET4):
        side.call(lambda network=network: sets.block_network(network, timeout))
    listed = side.call(sets.blocked_networks)
    assert [blocked[:3] for blocked in listed] == [
        ("203.0.113.0/24", 4, timeout),
        ("2001:db8::/48", 6, timeout),
    ]
    assert all(timeout - 10 < blocked.expires <= timeout for blocked in listed)


def test_blocking_a_network_again_sets_the_new_timeout(side: Side, sets: BlockSets) -> None:
    for timeout in (600, 60):
        side.call(lambda timeout=timeout: sets.block_network(NET4, timeout))
    [blocked] = side.call(sets.blocked_networks)
    assert blocked.timeout == 60


@pytest.mark.parametrize("timeout", [100_000.0, 315_360_000.0, 0.0])
def test_a_source_is_blocked_for_long_or_forever(
    side: Side, sets: BlockSets, timeout: float
) -> None:
    source = parse_source("203.0.113.7")
    side.call(lambda: sets.block([(source, timeout)]))
    found = side.call(lambda: sets.find(source))
    assert found is not None
    assert (found.timeout, timeout - 10 < found.expires <= timeout) == (timeout, True)


@pytest.mark.parametrize("net", ["0.0.0.0/1", "128.0.0.0/1", "8000::/1", "203.0.113.6/31"])
def test_a_network_at_the_edge_is_blocked_again_and_unblocked(
    side: Side, sets: BlockSets, net: str
) -> None:
    for timeout in (600.0, 0.0, 60.0):
        side.call(lambda timeout=timeout: sets.block_network(ip_network(net), timeout))
        assert [(b.address, b.timeout) for b in side.call(sets.blocked_networks)] == [
            (net, timeout)
        ]
    side.call(lambda: sets.unblock_network(ip_network(net)))
    assert side.call(sets.blocked_networks) == []


@pytest.mark.parametrize("text", ["203.0.113.128/25", "203.0.0.0/16"], ids=["inner", "outer"])
def test_a_network_that_overlaps_a_blocked_one_is_refused(
    side: Side, sets: BlockSets, text: str
) -> None:
    side.call(lambda: sets.block_network(NET4, 600))
    with pytest.raises(UsageError, match=rf"{text} overlaps 203\.0\.113\.0/24, which is blocked"):
        side.call(lambda: sets.block_network(ip_network(text), 600))
    assert _addresses(side) == ["203.0.113.0/24"]


def test_neighbouring_networks_stay_two(side: Side, sets: BlockSets) -> None:
    halves = [ip_network("203.0.113.0/25"), ip_network("203.0.113.128/25")]
    for half in halves:
        side.call(lambda half=half: sets.block_network(half, 600))
    assert _addresses(side) == [str(half) for half in halves]


def test_an_unblocked_network_is_gone(side: Side, sets: BlockSets) -> None:
    side.call(lambda: sets.block_network(NET4, 600))
    side.call(lambda: sets.unblock_network(NET4))
    assert _addresses(side) == []
    with pytest.raises(NotFound, match=r"^203\.0\.113\.0/24 is not blocked$"):
        side.call(lambda: sets.unblock_network(NET4))


# --- never-block


def test_never_block_networks_are_replaced_as_a_whole(side: Side, sets: BlockSets) -> None:
    for texts in (["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32", "2001:db8::/64"], []):
        side.call(lambda texts=texts: side.table.replace_never_block(networks(*texts)))
        found = [str(network) for network in side.call(sets.never_blocked)]
        assert found == (["192.0.2.0/24", "2001:db8::/64"] if texts else [])


# --- everything


def test_blocks_are_counted_by_family_and_ended_together(side: Side, sets: BlockSets) -> None:
    assert sets.count_blocked() == {4: 0, 6: 0}
    sets.block([(parse_source(address), 600) for address in SOURCES])
    side.call(lambda: sets.block_network(NET4, 600))
    side.add("suspect", FOUR)
    assert sets.count_blocked() == {4: 2, 6: 2}
    assert _addresses(side) == sorted([*SOURCES, str(NET4)])
    assert side.call(sets.unblock_all) == 4
    assert _addresses(side) == []
    assert not sets.is_suspect(parse_source(FOUR))
    assert side.call(sets.unblock_all) == 0


# --- the fake itself


def test_a_refused_transaction_leaves_the_fake_as_it_was() -> None:
    kernel = FakeKernel()
    kernel.install()
    kernel.refuse(errno.ENOMEM)
    sets = FakeTable(kernel).sets
    with pytest.raises(KernelError, match="block: Cannot allocate memory"):
        sets.block([(parse_source(FOUR), 600)])
    assert sets.blocks() == []
    sets.block([(parse_source(FOUR), 600)])
    assert sets.is_blocked(parse_source(FOUR))


def test_the_fake_counts_what_a_block_drops() -> None:
    kernel = FakeKernel()
    kernel.install()
    sets = FakeTable(kernel).sets
    sets.block([(parse_source(FOUR), 600)])
    kernel.hit(FOUR, 3, 180)
    kernel.advance(10)
    assert sets.blocks() == [Blocked(FOUR, 4, 600.0, 590.0, 3, 180)]


INHERITED: Final = {
    Table: {"is_installed", "require", "require_on"},
    BlockSets: {"is_blocked", "blocks"},
}
"""Methods that call nothing but other public methods."""


@pytest.mark.parametrize(
    ("real", "fake"), [(Table, FakeTable), (BlockSets, FakeBlockSets)], ids=["Table", "BlockSets"]
)
def test_the_fake_has_every_public_method(real: type, fake: type) -> None:
    public = {name for name in vars(real) if not name.startswith("_")}
    assert public - vars(fake).keys() == INHERITED[real]
    for name in public & vars(fake).keys():
        if callable(vars(real)[name]):
            assert _parameters(vars(fake)[name]) == _parameters(vars(real)[name]), name


def _parameters(method: Callable[..., object]) -> list[tuple[object, ...]]:
    """Return name, kind and default of each parameter; annotations may be written as text."""
    parameters = inspect.signature(method).parameters.values()
    return [(item.name, item.kind, item.default) for item in parameters]
