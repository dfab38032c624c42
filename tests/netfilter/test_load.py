"""load(): a new table, an update, a table of another program, and the deletion."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.host.protected import index_of
from sentryfw.netfilter import snapshot
from sentryfw.netfilter.load import load, make_plan, unload
from sentryfw.netfilter.ruleset import render
from sentryfw.netfilter.table import Table, never_block_elements
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.forge import networks

pytestmark = [pytest.mark.netns]

RULESET: Final = render(Config(), index_of([]))


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    """A connection to the namespace's nf_tables, without a table."""
    made = namespace.call(Table)
    yield made
    made.close()


def test_the_first_load_makes_a_table_and_the_second_updates_it(
    namespace: Namespace, table: Table
) -> None:
    assert not namespace.call(lambda: load(table, RULESET)).plan.update
    table.sets.block([(parse_source("198.18.0.2"), 600.0)])
    again = namespace.call(lambda: load(table, RULESET))
    assert again.plan.update
    assert again.kept == 1
    assert table.sets.is_blocked(parse_source("198.18.0.2"))


@pytest.mark.parametrize("loads", [1, 2], ids=["new table", "update"])
def test_the_kernel_has_the_never_block_elements_that_the_guard_plans(
    namespace: Namespace, table: Table, loads: int
) -> None:
    """The guard does not read them: it packs the networks that were loaded."""
    held = networks(
        "0.0.0.0/32", "127.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25", "192.0.2.7", "255.0.0.0/8",
        "::/127", "::1", "2001:db8::/32", "ffff::/16",
    )  # fmt: skip
    given = [ip_network(n) for n in ("0.0.0.0/32", "192.0.2.0/24", "255.0.0.0/8", "::/127")]
    given += [ip_network(n) for n in ("2001:db8::/32", "ffff::/16")]
    for _ in range(loads):
        namespace.call(lambda: load(table, render(Config(), index_of(given))))
    with namespace.call(NfnetlinkSocket) as netlink:
        there = snapshot.read(netlink)
    assert there is not None
    planned = there.with_elements(never_block_elements(held))
    assert planned.missing_from(there) == []


def test_an_update_replaces_the_never_block_networks(namespace: Namespace, table: Table) -> None:
    """An operator's own element, too, as at the first load."""
    for text in ("192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"):
        ruleset = render(Config(), index_of([ip_network(text)]))
        namespace.call(lambda ruleset=ruleset: load(table, ruleset))
        found = {str(network) for network in table.sets.never_blocked()}
        assert found == {text, "127.0.0.0/8", "::1/128"}
        added = namespace.run("nft", "add element inet sentryfw never_block4 { 198.18.9.0/24 }")
        assert added.returncode == 0, added.stderr


def test_a_table_of_an_older_schema_is_replaced_and_its_blocks_are_kept(
    namespace: Namespace, table: Table
) -> None:
    namespace.run(
        "nft",
        'add table inet sentryfw { comment "SentryFW schema 1"; }; add chain inet sentryfw forsake;'
        " add set inet sentryfw block4 { type ipv4_addr; flags timeout; };"
        " add element inet sentryfw block4 { 198.18.0.2 timeout 1h }",
    )
    loaded = namespace.call(lambda: load(table, RULESET))
    assert not loaded.plan.update
    assert loaded.kept == 1
    assert "forsake" not in namespace.run("nft", "list ruleset").stdout


def test_a_plan_changes_nothing(namespace: Namespace, table: Table) -> None:
    planned = namespace.call(lambda: make_plan(table, RULESET))
    assert "chain divert_input" in planned.script
    assert namespace.run("nft", "list ruleset").stdout == ""


def test_a_table_of_another_program_is_refused(namespace: Namespace, table: Table) -> None:
    namespace.run("nft", "add table inet sentryfw")
    with pytest.raises(SentryError):
        namespace.call(lambda: load(table, RULESET))


def test_unload_deletes_the_table(namespace: Namespace, table: Table) -> None:
    namespace.call(lambda: load(table, RULESET))
    assert namespace.call(lambda: unload(table))
    assert not namespace.call(lambda: unload(table))
    assert namespace.run("nft", "list ruleset").stdout == ""
