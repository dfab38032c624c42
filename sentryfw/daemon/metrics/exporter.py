"""The exporter: one thread collects, the daemon's loop serves and writes the text file."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sentryfw.config.metrics import Metrics
from sentryfw.daemon.metrics import textfile
from sentryfw.daemon.metrics.collect import text_of_none
from sentryfw.daemon.metrics.endpoint import Endpoint
from sentryfw.daemon.status import ExportStatus
from sentryfw.errors import SentryError

CACHE_S: Final = 1.0
"""Seconds that a text serves further clients: scrapers cannot keep the thread busy."""

log: Final = logging.getLogger("sentryfwd")


class Exporter:
    """Exports as one [metrics] section asks. Lives in the daemon's loop."""

    def __init__(self, config: Metrics, collect: Callable[[], str]) -> None:
        self._config = config
        self._collect = collect
        self._worker = ThreadPoolExecutor(1, "metrics")
        self._writer: asyncio.Task[None] | None = None
        self._kept = ("", float("-inf"))
        self._fault = ""
        address = config.address
        self._endpoint = None if address is None else Endpoint(address, self.text)

    async def start(self) -> None:
        """Start to serve and write. Raise SentryError if the address is taken."""
        if self._endpoint is not None:
            await self._endpoint.start()
        if self._config.textfile is not None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def stop(self, kept: Path | None = None) -> None:
        """Stop. The text file then reports a stopped daemon, unless the next exporter writes it
        (`kept`)."""
        if self._endpoint is not None:
            self._endpoint.stop()
        if self._writer is not None:
            self._writer.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)  # it may be writing that file
        place = self._config.textfile
        if place is not None and place != kept:
            with contextlib.suppress(SentryError):  # _write() has logged it
                textfile.write(place, text_of_none())

    def status(self) -> ExportStatus:
        """Return the scrapes that were answered, and the fault of the text file."""
        scrapes = self._endpoint.scrapes if self._endpoint is not None else 0
        return ExportStatus(scrapes, self._fault)

    async def text(self) -> str:
        """Return the text, at most a second old."""
        kept, at = self._kept
        if time.monotonic() - at < CACHE_S:
            return kept
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._worker, self._collect)
        self._kept = (made, time.monotonic())
        return made

    async def _write(self) -> None:
        place = self._config.textfile
        assert place is not None  # noqa: S101 - start() checked
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
            await asyncio.sleep(self._config.every)
