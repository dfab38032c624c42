"""The kernel's word about files that are written to."""

import asyncio
import os
from pathlib import Path

import pytest

from sentryfw.daemon.fleet.file_watch import FileWatch
from sentryfw.errors import SentryError


def test_a_write_is_seen_once_also_one_before_the_call(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db-wal"
    path.touch()

    async def scenario() -> list[bool]:
        with FileWatch(tmp_path) as watch:
            with path.open("ab") as file:
                file.write(b"x")
            return [await watch.written(5), await watch.written(0.01)]

    assert asyncio.run(scenario()) == [True, False]


def test_a_write_while_it_waits_ends_the_waiting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db-wal"

    async def scenario() -> bool:
        with FileWatch(tmp_path) as watch:
            asyncio.get_running_loop().call_later(0.05, path.write_text, "x")
            return await watch.written(30)

    assert asyncio.run(scenario())


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    with pytest.raises(SentryError, match=r"missing: cannot be watched: No such file"):
        FileWatch(tmp_path / "missing")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - a count
