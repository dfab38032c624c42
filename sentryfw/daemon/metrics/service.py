"""The exporter that [metrics] asks for, while the daemon runs.

The exporter and what it imports are loaded only where it is wanted: the daemon stays small.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sentryfw.config.metrics import Metrics
from sentryfw.daemon.status import ExportStatus

if TYPE_CHECKING:
    from sentryfw.daemon.metrics.exporter import Exporter


class MetricsService:
    """Starts, replaces and stops the exporter."""

    def __init__(self, collect: Callable[[], str]) -> None:
        """`collect` makes the text; it is called in the exporter's thread."""
        self._collect = collect
        self._exporter: Exporter | None = None

    async def replace(self, wanted: Metrics) -> None:
        """Export as `wanted` asks; raise SentryError if its address is taken."""
        self.stop(kept=wanted)
        if wanted.wanted:
            from sentryfw.daemon.metrics.exporter import Exporter  # noqa: PLC0415 - see above

            exporter = Exporter(wanted, self._collect)
            await exporter.start()
            self._exporter = exporter

    def stop(self, kept: Metrics | None = None) -> None:
        """End the exporter. `kept`, if given, continues to write the same text file."""
        if self._exporter is not None:
            self._exporter.stop(kept=None if kept is None else kept.textfile)
            self._exporter = None

    def status(self) -> ExportStatus | None:
        """Return the exporter's state; None without one."""
        return None if self._exporter is None else self._exporter.status()
