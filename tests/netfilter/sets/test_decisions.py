"""Confinements in the kernel's sets, and what an unblock does to them."""

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import NotFound
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

FLEET = Config.model_validate({
    "fleet": {"name": "us", "members": {"fw1": {"key": "ab" * 32}}}
})  # fmt: skip

sources = pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:0:1::/64", "fe80::1"])


@sources
def test_a_confined_source_is_found_and_listed_until_it_is_released(
    table: Table, address: str
) -> None:
    source = parse_source(address)
    assert table.decisions.find(source) is None
    table.decisions.confine(source, 600.0)
    found = table.decisions.find(source)
    assert found is not None
    assert found.timeout == 600.0
    assert next(iter(table.decisions.confined())).key == found.key
    assert table.decisions.release(source)
    assert not table.decisions.release(source)
    assert list(table.decisions.confined()) == []


@sources
def test_an_unblock_ends_a_confinement_too(table: Table, address: str) -> None:
    source = parse_source(address)
    table.decisions.confine(source, 600.0)
    table.sets.unblock(source)
    assert table.decisions.find(source) is None
    with pytest.raises(NotFound):
        table.sets.unblock(source)


@sources
def test_a_proven_block_cuts_live_flows_and_its_end_takes_that_back(
    namespace: Namespace, table: Table, address: str
) -> None:
    source = parse_source(address)
    name = "cut4" if "." in address else "cut6"

    def cut() -> str:
        return namespace.run("nft", "list", "set", "inet", "sentryfw", name).stdout

    table.sets.block([(source, 600.0)])
    assert "timeout 10m" not in cut()
    table.sets.block([(source, 600.0)], cut=[source])
    assert "timeout 10m" in cut()
    table.sets.unblock(source)
    assert "timeout 10m" not in cut()


@sources
def test_a_block_of_the_fleet_ends_with_the_last_word_about_it(
    namespace: Namespace, table: Table, address: str
) -> None:
    namespace.call(lambda: install(table, FLEET, []))
    source, others = parse_source(address), [parse_source(f"198.51.100.{n}") for n in range(9)]
    name = "fleet_cut4" if "." in address else "fleet_cut6"

    def state() -> tuple[float, bool]:
        found = table.decisions.find_of_fleet(source)
        flows = namespace.run("nft", "list", "set", "inet", "sentryfw", name).stdout
        return found.timeout if found else 0.0, "expires" in flows

    table.decisions.block_for_fleet([(source, 600.0)], cut={source})
    assert state() == (600.0, True)
    table.decisions.block_for_fleet([(source, 60.0), *((one, 5.0) for one in others)])
    assert state() == (60.0, False), "shorter, and its live flows go on"
    table.decisions.block_for_fleet([(source, 900.0)], cut={source})
    assert state() == (900.0, True)
    table.decisions.block_for_fleet([])
    assert table.decisions.lift_for_fleet(source)
    assert state() == (0.0, False)
    assert table.decisions.find_of_fleet(others[0]) is not None


def test_confinement_pauses_while_the_element_is_there(namespace: Namespace, table: Table) -> None:
    assert not table.decisions.is_paused()
    done = namespace.run(
        "nft", "add", "element", "inet", "sentryfw", "confine_pause", "{ tcp timeout 1h }"
    )
    assert done.returncode == 0, done.stderr
    assert table.decisions.is_paused()
    assert table.decisions.count("served4") in (0, None)
