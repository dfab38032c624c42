"""The control socket, as who asks sees it: newline JSON, one request, one answer or a stream of
them. An error in an answer has a code: the exit code it ends in. control_server.py answers.
"""

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import NoPrivilege, NotRunning, SentryError

MAX_LINE: Final = 65536
PATIENCE: Final = 2.0

Answer = dict[str, Any]


def ask(path: Path, request: Answer, patience: float = PATIENCE) -> Answer:
    """One request to the daemon, with so many seconds for the answer. NotRunning if there is
    none."""
    with _asked(path, request, patience) as lines:
        return next(lines)


def ask_stream(path: Path, request: Answer) -> Iterator[Answer]:
    """The same for a request with many answers."""
    with _asked(path, request) as lines:
        for answer in lines:
            if "end" in answer:
                return
            yield answer


@contextlib.contextmanager
def _asked(path: Path, request: Answer, patience: float = PATIENCE) -> Iterator[Iterator[Answer]]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(patience)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as file:
                yield (_checked(path, file.readline(MAX_LINE)) for _ in itertools.count())
    except (FileNotFoundError, ConnectionError, TimeoutError):
        raise NotRunning("the daemon is not running: start sentryfwd") from None
    except PermissionError:
        raise NoPrivilege(
            f"{path}: only root and the group sentryfw may ask the daemon: run it with sudo"
        ) from None
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror or error}") from error


def _checked(path: Path, line: bytes) -> Answer:
    """An answer; raised if it is an error."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise SentryError(f"{path}: the daemon's answer is no JSON object")
    if "error" in answer:
        code = answer.get("code")
        kind = NoPrivilege if code == NoPrivilege.exit_code else SentryError
        error = kind(str(answer["error"]))
        error.exit_code = code if isinstance(code, int) and 0 < code < 256 else error.exit_code
        raise error
    return answer
