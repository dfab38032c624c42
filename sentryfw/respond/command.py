"""The external command: run without a shell, with a timeout, in its own process group."""

import os
import re
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Final

from sentryfw.config.respond import FIELD, Command
from sentryfw.errors import ReactionFailed
from sentryfw.respond.incident import Incident

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_STDERR_BYTES: Final = 200
"""The last bytes of its stderr that are kept."""
_READ_BYTES: Final = 1 << 16


def fill(word: str, fields: dict[str, str]) -> str:
    """Replace the placeholders of a word; {{ and }} stand for braces."""

    def replacement(found: re.Match[str]) -> str:
        return fields[found[1]] if found[1] else found[0][0]

    return FIELD.sub(replacement, word)


class CommandRunner:
    """Runs the configured command about incidents."""

    def __init__(self, config: Command) -> None:
        self._config = config
        self._running: set[int] = set()
        self._is_ended = False
        self._lock = threading.Lock()

    def __call__(self, incident: Incident, requester: int | None = None) -> str:
        """Run the command; return a line about its end.

        Raise ReactionFailed if it is missing, exits with another status than 0, takes too long,
        or if kill() was called. `requester`: a socket; when its other end is closed, the command
        is killed.
        """
        fields = incident.fields()
        words = [fill(word, fields) for word in self._config.argv]
        environment = {f"SENTRYFW_{name.upper()}": text for name, text in fields.items()}
        process = self._start(words, {"PATH": PATH, "LANG": "C.UTF-8", **environment})
        try:
            return self._watch(process, words[0], requester)
        finally:
            if process.stderr is not None:
                process.stderr.close()

    def kill(self) -> None:
        """Kill the commands that run, and every process that they started; start no more."""
        with self._lock:
            self._is_ended = True
            for group in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)

    def _start(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._lock:  # a command that kill() does not see would outlive the daemon
            if self._is_ended:
                raise ReactionFailed(f"{words[0]}: not run, the daemon ended")
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, start_new_session=True, env=environment, cwd="/",
                )  # fmt: skip
            except OSError as error:
                raise ReactionFailed(f"{words[0]}: {error.strerror}") from error
            self._running.add(process.pid)
            return process

    def _watch(self, process: subprocess.Popen[bytes], name: str, requester: int | None) -> str:
        stderr, ended = _listen(process, self._config.timeout, requester)
        with self._lock:  # before wait(): until then no other process has its id
            self._running.discard(process.pid)
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ReactionFailed(f"{name}: killed, it took longer than {self._config.timeout:g}s")
        status = process.wait()
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            text = stderr.decode(errors="replace").strip()
            raise ReactionFailed(f"{name}: ended with {how}" + (f": {text}" if text else ""))
        return f"{name}: ended with status 0"


def _listen(
    process: subprocess.Popen[bytes], timeout: float, requester: int | None
) -> tuple[bytes, bool]:
    """Return the end of its stderr, and whether it ended in time."""
    assert process.stderr is not None  # noqa: S101 - Popen was given a pipe
    pipe = process.stderr.fileno()
    os.set_blocking(pipe, False)
    waiter = select.poll()
    found = b""
    deadline = time.monotonic() + timeout
    descriptor = os.pidfd_open(process.pid)
    try:
        waiter.register(descriptor, select.POLLIN)
        waiter.register(pipe, select.POLLIN)
        if requester is not None:
            waiter.register(requester, select.POLLRDHUP)
        while True:
            left = deadline - time.monotonic()
            ready = dict(waiter.poll(max(0.0, left) * 1000))
            if pipe in ready:
                data = _read(pipe)
                found = (found + data)[-MAX_STDERR_BYTES:]
                if not data:
                    waiter.unregister(pipe)
            if descriptor in ready:
                return (found + _read(pipe))[-MAX_STDERR_BYTES:], True
            if left <= 0 or requester in ready:
                return found, False
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return b""
