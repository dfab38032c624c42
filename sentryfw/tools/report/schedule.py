"""Make a report at intervals: the daemon's side. A process of its own makes it.

The time of the last report outlasts the daemon, in a file. A report that fails is tried again.
"""

import logging
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.host import child
from sentryfw.host.private_files import open_private
from sentryfw.record.recorder import Recorder

COMMAND: Final = child.command_of("sentryfw.cli.scheduled_report")
TIMEOUT_S: Final = 600.0
RETRY_INTERVAL_S: Final = 3600.0
NAME: Final = "report-at"
MAX_ERROR_CHARS: Final = 500

log: Final = logging.getLogger("sentryfwd")


class ReportSchedule:
    """Decides when a report is due, and lets a process make it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._every = 0.0
        self._due_at = 0.0
        self._thread: threading.Thread | None = None

    def tick(self, config: Config) -> None:
        """Start the process if a report is due; called once a second with the configuration."""
        every = config.report.every
        if every is None or (self._thread is not None and self._thread.is_alive()):
            return
        now = time.time()
        if every != self._every:
            self._every = every
            self._due_at = _last(config.paths.state / NAME, now) + every
        self._due_at = min(self._due_at, now + every)  # the clock was set back
        if now < self._due_at:
            return
        arguments = (config, self._due_at, every)
        self._due_at = now + min(every, RETRY_INTERVAL_S)  # if this one fails
        self._thread = threading.Thread(
            target=self._make, args=arguments, name="report", daemon=True
        )
        self._thread.start()

    def _make(self, config: Config, due_at: float, every: float) -> None:
        request = {
            "config": config.model_dump(mode="json"), "at": due_at, "seconds": every,
        }  # fmt: skip
        answer = _run(request)
        if "done" in answer:
            self._recorder.note("report", done=answer["done"])
            log.info("report: %s", answer["done"])
            try:
                _remember(config.paths.state / NAME, due_at)
            except (SentryError, OSError) as error:
                log.warning("report: its time is not kept: %s", error)
            self._due_at = max(due_at + every, time.time())
            return
        self._recorder.note("report-failed", error=answer["error"])
        log.error("report: %s; tried again within an hour", answer["error"])


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the process to its end, and return its answer: "done", or "error"."""
    try:
        answer, status, errors = child.run(COMMAND, request, TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"the process that makes it: {error}"[:MAX_ERROR_CHARS]}
    if isinstance(answer, dict) and ("done" in answer or "error" in answer):
        return answer
    reason = errors.strip()[-MAX_ERROR_CHARS:] or f"status {status}"
    return {"error": f"the process that makes it ended: {reason}"}


def _last(path: Path, now: float) -> float:
    """Return the time of the last report; without one it is now, and kept."""
    try:
        return min(float(path.read_text()[:32]), now)
    except (OSError, ValueError):
        pass
    try:
        _remember(path, now)
    except (SentryError, OSError) as error:
        log.warning("report: its time is not kept: %s", error)
    return now


def _remember(path: Path, at: float) -> None:
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write(f"{at:.0f}\n")
