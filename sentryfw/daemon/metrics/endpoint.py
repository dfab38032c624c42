"""GET /metrics on a loopback address or a UNIX socket: the part of HTTP/1.1 that scrapers use."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sentryfw.daemon.metrics.families import CONTENT_TYPE
from sentryfw.errors import SentryError

MAX_REQUEST_BYTES: Final = 8192
MAX_CLIENTS: Final = 8
CLIENT_TIMEOUT_S: Final = 5.0
PATH: Final = "/metrics"

Text = Callable[[], Awaitable[str]]


class Endpoint:
    """A server on one address, which answers with the text that it is given."""

    def __init__(self, address: tuple[str, int] | Path, text: Text) -> None:
        self._address = address
        self._text = text
        self._server: asyncio.AbstractServer | None = None
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        """Clients whose request has not arrived, the oldest first."""
        self._clients = 0
        self.scrapes = 0

    async def start(self) -> None:
        """Listen. Raise SentryError if the address is taken, or a socket cannot be made there."""
        address = self._address
        try:
            if isinstance(address, Path):
                _remove_stale(address)
                self._server = await self._listen(address)
            else:
                host, port = address
                self._server = await asyncio.start_server(
                    self._serve, host, port, limit=MAX_REQUEST_BYTES
                )
        except OSError as error:
            name = address if isinstance(address, Path) else f"{address[0]}:{address[1]}"
            raise SentryError(f"metrics.listen: {name}: {os.strerror(error.errno or 0)}") from error

    def stop(self) -> None:
        """Close the server, and remove its UNIX socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if isinstance(self._address, Path):
                self._address.unlink(missing_ok=True)

    async def _listen(self, path: Path) -> asyncio.AbstractServer:
        """Make a socket of mode 0660, for the daemon's group."""
        mask = os.umask(0o117)
        try:
            return await asyncio.start_unix_server(self._serve, path, limit=MAX_REQUEST_BYTES)
        finally:
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MAX_CLIENTS and not self._dismiss_oldest():
            writer.close()
            return
        self._clients += 1
        self._waiting[writer] = None
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CLIENT_TIMEOUT_S)
            self._waiting.pop(writer, None)
            writer.write(await self._answer(head))
            await asyncio.wait_for(writer.drain(), CLIENT_TIMEOUT_S)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the client sent nothing or too much, or left
        finally:
            self._waiting.pop(writer, None)
            self._clients -= 1
            writer.close()

    def _dismiss_oldest(self) -> bool:
        """Disconnect the client that has been silent for the longest time: any local user can
        connect to a port. Return whether there was one."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        del self._waiting[oldest]
        oldest.transport.abort()
        return True

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", "a request of HTTP/1.1 is expected\n")
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return _response("405 Method Not Allowed", "use GET\n", "Allow: GET, HEAD\r\n")
        if target.partition("?")[0] != PATH:
            return _response("404 Not Found", f"metrics are at {PATH}\n")
        self.scrapes += 1
        whole = _response("200 OK", await self._text(), kind=CONTENT_TYPE)
        return whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that was killed.

    Raise SentryError if the path is something else, or if other users could make it.
    """
    if path.parent.stat().st_mode & stat.S_IWOTH:
        raise SentryError(f"metrics.listen: {path.parent}: other users may write there")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SentryError(f"metrics.listen: {path} exists and is not a socket")
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
