"""Copies between ledgers: out of a damaged one, and out of memory."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from sentryfw.record import lookup
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import Named, ProbeTrace
from sentryfw.record.salvage import copy, salvage
from support.entries import BLOCK, BLOCKED_AT, PROBE, REFUSAL, SIX

PAGE_BYTES = 4096
TRACE = (ProbeTrace(BLOCKED_AT, "syn", listed=False, target="198.18.0.1 tcp/22"),)


def test_blocks_and_never_block_networks_are_read_out_of_a_damaged_ledger(path: Path) -> None:
    with Ledger(path) as broken:
        broken.add([BLOCK, SIX])
        broken.protect("198.18.0.7/32", "ssh peer", time.time())
        [(page,)] = broken.database.read(
            "SELECT rootpage FROM sqlite_master WHERE name = 'probes_by_address'"
        )
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(os.urandom(PAGE_BYTES))
    with Ledger(None) as into:
        assert salvage(path, into.database) == {"blocks": 2}
        assert set(into.latest_blocks([BLOCK.address, SIX.address])) == {BLOCK.address, SIX.address}
        assert into.protected() == [("198.18.0.7/32", "ssh peer")]


def test_columns_of_an_older_schema_are_enough(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE protected (network TEXT, why TEXT, since REAL, more TEXT)")
        row = ("192.0.2.1", "by hand", time.time(), "x")
        connection.execute("INSERT INTO protected VALUES (?,?,?,?)", row)
    with Ledger(None) as into:
        assert salvage(path, into.database) == {"blocks": 0}
        assert into.protected() == [("192.0.2.1", "by hand")]


def test_random_bytes_yield_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(2 * PAGE_BYTES))
    with Ledger(None) as into:
        assert salvage(path, into.database) == {"blocks": 0}


def test_memory_is_copied_with_new_ids_and_their_traces(path: Path) -> None:
    with Ledger(path) as disk, Ledger(None) as memory:
        disk.add([SIX._replace(trace=TRACE * 2)])
        memory.add([BLOCK._replace(trace=TRACE), REFUSAL._replace(trace=TRACE)], [PROBE])
        memory.add_reactions([], [Named("a", "a.example", 1.0)])
        copy(memory.database, disk.database, {})
        found = lookup.history(disk, BLOCK.address)
        assert [past.entry for past in found.blocks] == [BLOCK._replace(trace=TRACE)]
        assert found.refusals == [REFUSAL._replace(trace=TRACE)]
        assert disk.hosts(["a"]) == {"a": "a.example"}
        [six] = lookup.history(disk, SIX.address).blocks
        assert len(six.entry.trace) == 2


def test_rows_that_are_on_the_disk_are_not_copied_again(path: Path) -> None:
    with Ledger(path) as disk, Ledger(None) as memory:
        memory.add([BLOCK, SIX])
        copy(memory.database, disk.database, {"blocks": 1})
        assert set(disk.latest_blocks([BLOCK.address, SIX.address])) == {SIX.address}


def test_a_copy_that_fails_changes_nothing(path: Path) -> None:
    with Ledger(path) as disk, Ledger(None) as memory:
        memory.add([BLOCK, REFUSAL])
        disk.database.execute("DROP TABLE refusals")
        with pytest.raises(sqlite3.Error, match="refusals"):
            copy(memory.database, disk.database, {})
        assert disk.latest_blocks([BLOCK.address]) == {}
