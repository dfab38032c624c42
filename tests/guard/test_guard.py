"""The guard as a whole, on a real table."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NO_NETWORKS
from sentryfw.errors import SentryError
from sentryfw.guard.guard import Guard
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.record.resilient_ledger import ResilientLedger
from sentryfw.tools.drill.namespace import Namespace
from support.guarding import FakeRecorder

pytestmark = [pytest.mark.netns]

SOURCE = parse_source("198.51.100.1")
KEY = ip_address("198.51.100.1").packed


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    with closing(namespace.call(Table)) as made:
        namespace.call(lambda: install(made, Config(), []))
        yield made


@pytest.fixture
def guard(namespace: Namespace, table: Table, tmp_path: Path) -> Iterator[Guard]:
    paths = {"runtime": str(tmp_path / "run"), "state": str(tmp_path / "state")}
    config = Config.model_validate({"paths": paths})
    recorder: Any = FakeRecorder()
    made = namespace.call(lambda: Guard(config, table, recorder, print))
    yield made
    for resource in (made._thread, made._monitor, made._netlink):
        resource.close()


def _prepare(guard: Guard, tmp_path: Path) -> None:
    with guard.lock.held(), closing(ResilientLedger(tmp_path / "ledger.db")) as ledger:
        guard.prepare(ledger, NO_NETWORKS)


def test_a_guard_restores_and_follows_blocks(
    namespace: Namespace, guard: Guard, table: Table, tmp_path: Path
) -> None:
    table.sets.block([(SOURCE, 60.0)])
    _prepare(guard, tmp_path)
    assert KEY in guard.memory.ends
    assert guard.status()["reconciled"]["runs"] == 1
    assert guard.status()["blocked"] == 1

    async def run() -> None:
        guard.start()
        namespace.run("nft", "delete element inet sentryfw block4 { 198.51.100.1 }")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if guard.status()["unblocked_by_others"]:
                break
        guard.blocked(SOURCE, 60.0, 0.0)
        assert KEY in guard.memory.ends
        guard.record_unblocked(["198.51.100.1"])
        guard.close()

    asyncio.run(run())
    assert guard.status()["unblocked_by_others"] == 1
    assert len(guard.memory) == 0


def test_forgetting_all_empties_memory_and_kernel(
    guard: Guard, table: Table, tmp_path: Path
) -> None:
    table.sets.block([(SOURCE, 60.0)])
    _prepare(guard, tmp_path)

    async def run() -> None:
        await guard.forget_all()
        assert len(guard.memory) == 0
        assert not table.sets.is_blocked(SOURCE)
        table.sets.block([(SOURCE, 60.0)])
        guard.start()
        guard.close()

    asyncio.run(run())
    assert table.sets.is_blocked(SOURCE), "a block that is made afterwards stays"


def test_a_table_deleted_right_after_the_install_is_reported(
    namespace: Namespace, guard: Guard, tmp_path: Path
) -> None:
    namespace.run("nft", "flush ruleset")
    with pytest.raises(SentryError, match="deleted right after its installation"):
        _prepare(guard, tmp_path)
