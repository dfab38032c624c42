"""What [metrics] asks for, as long as the daemon runs: one thread collects, the loop serves."""

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from sentryfw.config_metrics import Metrics
from sentryfw.errors import SentryError
from sentryfw.lean import asyncio
from sentryfw.metrics import textfile
from sentryfw.metrics.collect import text_of_none
from sentryfw.metrics.endpoint import Endpoint

FRESH: Final = 1.0
"""Seconds that a text is given to further clients: scrapers cannot make us collect for ever."""

log: Final = logging.getLogger("sentryfwd")


class Exporter:
    """Lives in the daemon's loop. SentryError from start() where the address cannot be had."""

    def __init__(self, settings: Metrics, collect: Callable[[], str]) -> None:
        self._settings = settings
        self._collect = collect
        self._worker = ThreadPoolExecutor(1, "metrics")
        self._writer: asyncio.Task[None] | None = None
        self._kept = ("", float("-inf"))
        self._fault = ""
        address = settings.address
        self._endpoint = None if address is None else Endpoint(address, self.text)

    async def start(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.start()
        if self._settings.textfile is not None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def stop(self, kept: Path | None = None) -> None:
        """The text file stays, and says that nothing runs; but not one that goes on, `kept`."""
        if self._endpoint is not None:
            self._endpoint.stop()
        if self._writer is not None:
            self._writer.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)  # it may be writing that file
        place = self._settings.textfile
        if place is not None and place != kept:
            with contextlib.suppress(SentryError):  # said before
                textfile.write(place, text_of_none())

    def status(self) -> dict[str, Any]:
        scrapes = self._endpoint.scrapes if self._endpoint is not None else 0
        return {"scrapes": scrapes, "fault": self._fault}

    async def text(self) -> str:
        """As of now, or of a second ago."""
        kept, at = self._kept
        if time.monotonic() - at < FRESH:
            return kept
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._worker, self._collect)
        self._kept = (made, time.monotonic())
        return made

    async def _write(self) -> None:
        place = self._settings.textfile
        assert place is not None  # noqa: S101 - start() looked
        loop = asyncio.get_running_loop()
        while True:
            try:
                made = await self.text()
                await loop.run_in_executor(self._worker, textfile.write, place, made)
            except SentryError as error:
                if str(error) != self._fault:
                    self._fault = str(error)
                    log.error("metrics: %s", error)
            else:
                self._fault = ""
            await asyncio.sleep(self._settings.every)
