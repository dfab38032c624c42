"""The external command: a list of words, no shell, a timeout, a process group of its own."""

import os
import re
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Final

from sentryfw.config_respond import FIELD, Command
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPLAINT: Final = 200
"""Bytes of what it wrote to stderr that are kept, the last ones."""


def fill(word: str, fields: dict[str, str]) -> str:
    """A word with its placeholders replaced; {{ and }} stand for braces."""

    def replacement(found: re.Match[str]) -> str:
        return fields[found[1]] if found[1] else found[0][0]

    return FIELD.sub(replacement, word)


class CommandRunner:
    """Runs the configured command about an incident."""

    def __init__(self, settings: Command) -> None:
        self._settings = settings
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, incident: Incident, asker: int | None = None) -> str:
        """Failed if it is missing, ends with another status than 0, or takes too long. `asker`:
        a socket; when its other end is closed, the command is ended, too."""
        fields = incident.fields()
        words = [fill(word, fields) for word in self._settings.argv]
        environment = {f"SENTRYFW_{name.upper()}": text for name, text in fields.items()}
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, start_new_session=True,
                env={"PATH": PATH, "LANG": "C.UTF-8", **environment}, cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"{words[0]}: {error.strerror}") from error
        with self._lock:
            self._running.add(process.pid)
        try:
            return self._watch(process, words[0], asker)
        finally:
            if process.stderr is not None:
                process.stderr.close()

    def kill(self) -> None:
        """End what runs, with everything it started."""
        with self._lock:
            for group in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)

    def _watch(self, process: subprocess.Popen[bytes], name: str, asker: int | None) -> str:
        complaint, ended = _listen(process, self._settings.timeout, asker)
        with self._lock:  # before it is waited for: until then its number is nobody else's
            self._running.discard(process.pid)
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Failed(f"{name}: killed, it took longer than {self._settings.timeout:g}s")
        status = process.wait()
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            said = complaint.decode(errors="replace").strip()
            raise Failed(f"{name}: ended with {how}" + (f": {said}" if said else ""))
        return f"{name}: ended with status 0"


def _listen(
    process: subprocess.Popen[bytes], timeout: float, asker: int | None
) -> tuple[bytes, bool]:
    """The end of what it wrote to stderr, and whether it ended in time."""
    assert process.stderr is not None  # noqa: S101 - Popen was given a pipe
    stderr = process.stderr.fileno()
    os.set_blocking(stderr, False)
    waiter = select.poll()
    complaint = b""
    deadline = time.monotonic() + timeout
    descriptor = os.pidfd_open(process.pid)
    try:
        waiter.register(descriptor, select.POLLIN)
        waiter.register(stderr, select.POLLIN)
        if asker is not None:
            waiter.register(asker, select.POLLRDHUP)
        while True:
            left = deadline - time.monotonic()
            ready = dict(waiter.poll(max(0.0, left) * 1000))
            if stderr in ready:
                data = _read(stderr)
                complaint = (complaint + data)[-COMPLAINT:]
                if not data:
                    waiter.unregister(stderr)
            if descriptor in ready:
                return (complaint + _read(stderr))[-COMPLAINT:], True
            if left <= 0 or asker in ready:
                return complaint, False
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""
