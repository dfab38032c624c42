"""A process of its own for a drill, which ends with everything that it started at any moment.

The process that cleans up does nothing else: it forks a child for the drill, and waits for the
child's messages and for signals. At a signal it kills the child in the middle of its work; the
namespaces and the daemon die with it (PR_SET_PDEATHSIG). No handler raises, so no signal is lost.

See docs/decisions.md: no-raising-handlers.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, Self

from sentryfw.errors import SentryError
from sentryfw.host.signals import END_SIGNALS
from sentryfw.tools.drill.namespace import die_with_parent

PR_SET_CHILD_SUBREAPER: Final = 36
END_TIMEOUT_S: Final = 5.0
"""Seconds that killed processes have to be gone; they take some milliseconds."""
POLL_S: Final = 0.005

Say = Callable[[str], None]
Job = Callable[[Path, Say], Any]
"""Gets its directory, and a function that passes a line on; returns a value of JSON."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Interrupted(SentryError):
    """A signal ended the work. The exit code is that of a shell: 128 + the number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; nothing of it is left")
        self.exit_code = 128 + number


class Signals:
    """Signals as data: the handlers only note the number, and wake a select()."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        self.wakeup, self._theirs = socket.socketpair()
        for end in (self.wakeup, self._theirs):
            end.setblocking(False)
        self._handlers: dict[int, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        descriptor = self._theirs.fileno()
        self._wakeup_before = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        for number in END_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup(1)
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self.wakeup.close()
        self._theirs.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.caught.append(number)


def supervise(job: Job, say: Say) -> Any:  # noqa: ANN401 - any value of JSON
    """Run a job in a child with a directory of its own; return its result. `say` gets its lines.

    Nothing remains of the child, of what it started, and of the directory. Raise Interrupted after
    a signal, and the job's SentryError.
    """
    with Signals() as signals:
        directory = Path(tempfile.mkdtemp(prefix=f"sentryfw-drill-{os.getpid()}_", dir="/run"))
        try:
            return _run(job, directory, signals, say)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _run(job: Job, directory: Path, signals: Signals, say: Say) -> Any:  # noqa: ANN401
    others, parent = _children(), os.getpid()
    reader, writer = os.pipe()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if not child:
        _serve(job, directory, writer, parent)
    try:
        os.close(writer)
        return _result(reader, signals, say)
    finally:
        os.close(reader)
        _end(child, others)
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


# --- the parent


def _result(reader: int, signals: Signals, say: Say) -> Any:  # noqa: ANN401
    """Pass the child's lines on until its result, its error or a signal."""
    rest = b""
    wakeup = signals.wakeup.fileno()
    while True:
        ready, _, _ = select.select([reader, wakeup], [], [])
        if signals.caught:
            raise Interrupted(signals.caught[0])
        if wakeup in ready:  # another signal, as SIGWINCH
            signals.wakeup.recv(4096)
        if reader not in ready:
            continue
        data = os.read(reader, 1 << 16)
        if not data:
            raise SentryError("the process that does the work was killed")
        *lines, rest = (rest + data).split(b"\n")
        for message in map(json.loads, lines):
            if "line" not in message:
                return _outcome(message)
            say(message["line"])


def _outcome(message: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the result in the child's last message. Raise SentryError if it failed."""
    if "result" in message:
        return message["result"]
    error = SentryError(message["error"])
    error.exit_code = message["exit_code"]
    raise error


def _end(child: int, others: set[int]) -> None:
    """Kill the child and all of its descendants, which come to this process as their parents end;
    wait until they are gone."""
    deadline = time.monotonic() + END_TIMEOUT_S
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while (left := _children() - others) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(POLL_S)


def _children() -> set[int]:
    """Return the children of this process."""
    own, found = str(os.getpid()), set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "stat").read_text().rpartition(")")[2].split()[1] == own:
                found.add(int(place.name))
    return found


# --- the child


def _serve(job: Job, directory: Path, writer: int, parent: int) -> NoReturn:
    """Run the job, and send its result or its error. Its parent answers the signals."""
    try:
        signal.set_wakeup_fd(-1)
        die_with_parent()
        if os.getppid() == parent:
            _send(writer, _message(job, directory, lambda text: _send(writer, {"line": text})))
    finally:
        if sys.exc_info()[0] is not None:  # a fault of ours is shown, as in any process
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(0)


def _message(job: Job, directory: Path, say: Say) -> dict[str, Any]:
    try:
        return {"result": job(directory, say)}
    except SentryError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except OSError as error:
        return {"error": str(error), "exit_code": 1}


def _send(writer: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(writer, data) :]
