"""GET /metrics on a loopback address or a UNIX socket: as much of HTTP as a scraper speaks."""

import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sentryfw.errors import SentryError
from sentryfw.lean import asyncio
from sentryfw.metrics.families import CONTENT_TYPE

MAX_REQUEST: Final = 8192
MAX_CLIENTS: Final = 8
PATIENCE: Final = 5.0
PATH: Final = "/metrics"

Text = Callable[[], Awaitable[str]]


class Endpoint:
    """Listens as long as the daemon wants it."""

    def __init__(self, address: tuple[str, int] | Path, text: Text) -> None:
        self._address = address
        self._text = text
        self._server: asyncio.AbstractServer | None = None
        self._clients = 0
        self.scrapes = 0

    async def start(self) -> None:
        """SentryError if the address is taken, or no place for a socket."""
        address = self._address
        try:
            if isinstance(address, Path):
                _make_way(address)
                self._server = await self._listen(address)
            else:
                host, port = address
                self._server = await asyncio.start_server(
                    self._serve, host, port, limit=MAX_REQUEST
                )
        except OSError as error:
            name = address if isinstance(address, Path) else f"{address[0]}:{address[1]}"
            raise SentryError(f"metrics.listen: {name}: {os.strerror(error.errno or 0)}") from error

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            if isinstance(self._address, Path):
                self._address.unlink(missing_ok=True)

    async def _listen(self, path: Path) -> asyncio.AbstractServer:
        """Mode 0660: for the daemon's group."""
        mask = os.umask(0o117)
        try:
            return await asyncio.start_unix_server(self._serve, path, limit=MAX_REQUEST)
        finally:
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MAX_CLIENTS:
            writer.close()
            return
        self._clients += 1
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            writer.write(await self._answer(head))
            await asyncio.wait_for(writer.drain(), PATIENCE)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # a client that says nothing, or too much, or left: its own affair
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", "this is HTTP/1.1\n")
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return _response("405 Method Not Allowed", "GET it\n", "Allow: GET, HEAD\r\n")
        if target.partition("?")[0] != PATH:
            return _response("404 Not Found", f"figures are at {PATH}\n")
        self.scrapes += 1
        whole = _response("200 OK", await self._text(), kind=CONTENT_TYPE)
        return whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _make_way(path: Path) -> None:
    """Remove the socket of a daemon that was killed. SentryError if it is something else, or if
    others could put one there."""
    if path.parent.stat().st_mode & stat.S_IWOTH:
        raise SentryError(f"metrics.listen: {path.parent}: everybody may write there")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SentryError(f"metrics.listen: {path} is there, and no socket")
        path.unlink()


def _response(
    status: str, text: str, more: str = "", kind: str = "text/plain; charset=utf-8"
) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
