"""The exporter: how often it collects, its text file, and its end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.metrics import Metrics
from sentryfw.daemon.metrics import exporter
from sentryfw.daemon.metrics.exporter import Exporter


class Collected:
    """Texts that count how often they were collected."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"sentryfw_up {self.count}\n"


def run(config: Metrics, collect: Any, during: Any, **stop: Any) -> None:
    async def main() -> None:
        made = Exporter(config, collect)
        await made.start()
        try:
            await during(made)
        finally:
            made.stop(**stop)

    asyncio.run(main())


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within 5 s")


def test_clients_share_a_text_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    collect = Collected()

    async def during(made: Exporter) -> None:
        assert [await made.text() for _ in range(3)] == ["sentryfw_up 1\n"] * 3
        monkeypatch.setattr(exporter, "CACHE_S", 0.0)
        assert await made.text() == "sentryfw_up 2\n"

    run(Metrics(), collect, during)


def test_the_text_file_is_written_and_reports_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"

    async def during(_: Exporter) -> None:
        await until(path.exists)
        assert path.read_text() == "sentryfw_up 1\n"

    run(Metrics(textfile=path), Collected(), during)
    assert "sentryfw_up 0\n" in path.read_text()


def test_a_text_file_that_goes_on_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"

    async def during(_: Exporter) -> None:
        await until(path.exists)

    run(Metrics(textfile=path), Collected(), during, kept=path)
    assert path.read_text() == "sentryfw_up 1\n"


def test_a_text_file_that_cannot_be_written_is_a_fault_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "later" / "x.prom"
    config = Metrics(textfile=path, every=1)

    async def during(made: Exporter) -> None:
        await until(lambda: made.status().fault)
        assert str(path) in made.status().fault
        path.parent.mkdir()
        await until(lambda: not made.status().fault)

    run(config, Collected(), during)
    assert len([record for record in caplog.records if "metrics: " in record.message]) == 1
