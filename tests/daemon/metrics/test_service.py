"""The exporter that comes and goes with [metrics]."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from sentryfw.config.metrics import Metrics
from sentryfw.daemon.metrics.service import MetricsService
from sentryfw.daemon.status import ExportStatus
from sentryfw.errors import SentryError


def text() -> str:
    return "sentryfw_up 1\n"


def test_it_exports_nothing_until_it_is_wanted(tmp_path: Path) -> None:
    service = MetricsService(text)

    async def run() -> None:
        await service.replace(Metrics())
        assert service.status() is None
        await service.replace(Metrics(listen=str(tmp_path / "x")))
        assert service.status() == ExportStatus(scrapes=0, fault="")
        await service.replace(Metrics())
        assert service.status() is None

    asyncio.run(run())
    assert not (tmp_path / "x").exists()


def test_a_new_address_replaces_the_old_one(tmp_path: Path) -> None:
    service = MetricsService(text)

    async def run() -> None:
        await service.replace(Metrics(listen=str(tmp_path / "a")))
        await service.replace(Metrics(listen=str(tmp_path / "b")))
        assert os.listdir(tmp_path) == ["b"]  # noqa: PTH208 - pathlib would block the loop as well
        service.stop()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken_leaves_no_exporter(tmp_path: Path) -> None:
    service = MetricsService(text)

    async def run() -> None:
        await service.replace(Metrics(listen=str(tmp_path / "a")))
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(SentryError, match="already in use"):
                await service.replace(Metrics(listen=f"127.0.0.1:{port}"))
        assert service.status() is None

    asyncio.run(run())


def test_a_text_file_that_goes_on_is_not_marked_as_stopped(tmp_path: Path) -> None:
    service = MetricsService(text)
    path = tmp_path / "x.prom"

    async def run() -> None:
        await service.replace(Metrics(textfile=path))
        while not path.exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
        await service.replace(Metrics(textfile=path, every=2))
        assert path.read_text() == "sentryfw_up 1\n"
        service.stop()
        assert "sentryfw_up 0\n" in path.read_text()

    asyncio.run(run())
