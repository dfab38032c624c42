"""The client of the control socket: a line of JSON asks, one or more lines of JSON answer.

An error in an answer carries a code, which is the exit code it ends in. control/server.py answers.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sentryfw.control.answers import MAX_STREAM, harmless
from sentryfw.control.framing import encode
from sentryfw.distribution import service_command
from sentryfw.errors import NoPrivilege, NotRunning, SentryError

MAX_LINE_BYTES: Final = 65536
ANSWER_TIMEOUT_S: Final = 2.0
NOT_RUNNING: Final = "the daemon is not running: start sentryfwd"
NOT_RUNNING_NOR_ROOT: Final = (
    "the daemon is not running, and without it only root can read the kernel: start it"
    f" ({service_command('start')}), or run this with sudo"
)

Request = Mapping[str, Any]
"""A JSON object whose `do` names what is asked for."""
Answer = dict[str, Any]


def ask(path: Path, request: Request, timeout: float = ANSWER_TIMEOUT_S) -> Answer:
    """Send one request to the daemon and return its answer.

    `timeout`: seconds to wait for it. Raise NotRunning without a daemon, NoPrivilege where the
    caller may not ask, SentryError where the daemon refuses.
    """
    with _asked(path, request, timeout) as answers:
        for answer in answers:
            return answer
    raise NotRunning(NOT_RUNNING)


def ask_stream(path: Path, request: Request) -> Iterator[Answer]:
    """Like ask(), for requests answered by a stream."""
    with _asked(path, request, ANSWER_TIMEOUT_S) as answers:
        for answer in answers:
            if "end" in answer:
                return
            yield answer


def ask_unprivileged(path: Path, request: Request) -> Answer:
    """Like ask(), for a caller that may not read the kernel itself: NotRunning names both ways."""
    try:
        return ask(path, request)
    except NotRunning:
        raise NotRunning(NOT_RUNNING_NOR_ROOT) from None


def ask_stream_unprivileged(path: Path, request: Request) -> Iterator[Answer]:
    """Like ask_unprivileged(), for requests answered by a stream."""
    try:
        yield from ask_stream(path, request)
    except NotRunning:
        raise NotRunning(NOT_RUNNING_NOR_ROOT) from None


@contextlib.contextmanager
def _asked(path: Path, request: Request, timeout: float) -> Iterator[Iterator[Answer]]:
    """`timeout`: seconds for each whole line; a daemon that sends it byte by byte gains nothing."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # refused at once: its answer can be read
                client.sendall(encode(request))
            lines = _Lines(client, timeout)
            yield (_checked(path, lines.next()) for _ in range(MAX_STREAM))
    except (FileNotFoundError, ConnectionError, TimeoutError):
        raise NotRunning(NOT_RUNNING) from None
    except PermissionError:
        raise NoPrivilege(
            f"{path}: only root and the group sentryfw may ask the daemon: run it with sudo"
        ) from None
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror or error}") from error


class _Lines:
    """The lines of a connection."""

    def __init__(self, client: socket.socket, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._rest = b""

    def next(self) -> bytes:
        """Return the next line; what there is at the end of the stream. Raise TimeoutError."""
        end = time.monotonic() + self._timeout
        parts = [self._rest]
        size = len(self._rest)
        found = self._rest.find(b"\n")
        while found < 0 and size < MAX_LINE_BYTES:
            self._client.settimeout(max(0.001, end - time.monotonic()))
            data = self._client.recv(MAX_LINE_BYTES)
            if time.monotonic() > end:
                raise TimeoutError
            if not data:
                break
            at = data.find(b"\n")
            found = size + at if at >= 0 else -1
            parts.append(data)
            size += len(data)
        whole = b"".join(parts)
        end_of_line = found + 1 if 0 <= found < MAX_LINE_BYTES else MAX_LINE_BYTES
        self._rest = whole[end_of_line:]
        return whole[:end_of_line]


def _checked(path: Path, line: bytes) -> Answer:
    """Return the answer in a line; raise the error that it reports."""
    if not line:
        raise SentryError(f"{path}: the daemon closed the connection without an answer: try again")
    try:
        answer = harmless(json.loads(line))
    except (ValueError, RecursionError, SentryError) as error:
        why = f" ({error})" if isinstance(error, SentryError) else ""
        raise SentryError(f"{path}: the daemon's answer is not a JSON object{why}") from None
    if not isinstance(answer, dict):
        raise SentryError(f"{path}: the daemon's answer is not a JSON object")
    if "error" in answer:
        code = answer.get("code")
        kind = NoPrivilege if code == NoPrivilege.exit_code else SentryError
        reported = kind(str(answer["error"]))
        if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 256:
            reported.exit_code = code
        raise reported
    return answer
