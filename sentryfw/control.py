"""The control socket: one JSON object a line, one answer a line.

The daemon serves it to root alone (SO_PEERCRED); the CLI asks. Requests: {"do": "status"},
{"do": "release", "address": ...} after an unblock, {"do": "stop"}.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import NotRunning, SentryError

MAX_LINE: Final = 65536
MAX_CLIENTS: Final = 16
PATIENCE: Final = 2.0

Answer = dict[str, Any]


def ask(path: Path, request: Answer) -> Answer:
    """One request to the daemon. NotRunning if there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            line = client.makefile("rb").readline(MAX_LINE)
    except (FileNotFoundError, ConnectionError, TimeoutError):
        raise NotRunning("the daemon is not running: start sentryfwd") from None
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror or error}") from error
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SentryError(f"{path}: the daemon's answer is no JSON object")
    if "error" in answer:
        raise SentryError(str(answer["error"]))
    return answer


class ControlServer:
    """Answers on a UNIX socket from inside the daemon's loop."""

    def __init__(self, path: Path, answer: Callable[[Answer], Answer]) -> None:
        self._path = path
        self._answer = answer
        self._clients = 0
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)  # of a daemon that was killed: we hold its lock now
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        except OSError as error:
            raise SentryError(f"{self._path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _is_root(writer):
            writer.close()
            return
        if self._clients >= MAX_CLIENTS:
            writer.write(b'{"error": "too many clients at once: try again"}\n')
            writer.close()
            return
        self._clients += 1
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE)
            writer.write(json.dumps(self._reply(line)).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), PATIENCE)
        except (TimeoutError, ValueError, ConnectionError):
            pass  # a client that says nothing, too much, or left: its own affair
        finally:
            self._clients -= 1
            writer.close()

    def _reply(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "no JSON"}
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object"}
        try:
            return self._answer(request)
        except SentryError as error:
            return {"error": str(error)}


def _is_root(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII")
    )
    return bool(struct.unpack("=iII", peer)[1] in (0, os.geteuid()))
