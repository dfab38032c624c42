"""The control socket, as the daemon answers it, to any number of requests at once.

The kernel says who asks (SO_PEERCRED). Root and the daemon's own user may ask anything; the
daemon's group, `sentryfw`, what changes nothing (READ). Others are not answered; the socket's
mode keeps them out already. A daemon that runs as root has no such group.
"""

import contextlib
import itertools
import json
import os
import socket
import struct
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.control import MAX_LINE, PATIENCE, Answer
from sentryfw.errors import SentryError
from sentryfw.lean import asyncio
from sentryfw.plain import dumps

MAX_CLIENTS: Final = 16
CHUNK: Final = 64
"""Answers of a stream between two looks at what else there is to do."""
READ: Final = frozenset(
    {"status", "kernel", "list", "explain", "watch", "sources", "config", "metrics"}
)
"""Requests that change nothing: for the group."""
SO_PEERGROUPS: Final = 59
MAX_GROUPS: Final = 256
"""What Python's getsockopt() has room for; of a process in more, only the primary one counts."""

Stream = Generator[Answer, None, None]
"""Answers that take time: made in a thread beside the packet path, as fast as they are read."""
Reply = Answer | Stream


class Peer(NamedTuple):
    """Who is at the other end of a socket, as the kernel tells it."""

    uid: int
    groups: frozenset[int]

    @property
    def may_change(self) -> bool:
        return self.uid in (0, os.geteuid())

    @property
    def may_read(self) -> bool:
        return self.may_change or _group() in self.groups


def _group() -> int | None:
    """Whose members may read: the daemon's own group, unless that is root's."""
    return os.getegid() or None


def peer_of(sock: socket.socket) -> Peer:
    """SO_PEERCRED, and SO_PEERGROUPS for the other groups of the process (4.13)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    _, uid, gid = struct.unpack("=iII", credentials)
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MAX_GROUPS)
    except OSError:
        packed = b""
    return Peer(uid, frozenset((gid, *struct.unpack(f"={len(packed) // 4}I", packed))))


class ControlServer:
    """Answers on a UNIX socket from inside the daemon's loop."""

    def __init__(self, path: Path, answer: Callable[[Answer], Reply]) -> None:
        self._path = path
        self._answer = answer
        self._clients = 0
        self._server: asyncio.AbstractServer | None = None
        self._worker = ThreadPoolExecutor(1, "control")

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)  # of a daemon that was killed: we hold its lock now
        mask = os.umask(0o117 if _group() else 0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        except OSError as error:
            raise SentryError(f"{self._path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if not peer.may_read:
            writer.close()
            return
        if self._clients >= MAX_CLIENTS:
            writer.write(b'{"error": "too many clients at once: try again"}\n')
            writer.close()
            return
        self._clients += 1
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE)
            await self._send(self._reply(line, peer), writer)
        except (TimeoutError, ValueError, ConnectionError):
            pass  # a client that says nothing, too much, reads nothing, or left: its own affair
        finally:
            self._clients -= 1
            writer.close()

    def _reply(self, line: bytes, peer: Peer) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "no JSON"}
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object"}
        what = request.get("do")
        if not peer.may_change and not (isinstance(what, str) and what in READ):
            return {"error": "only root may ask that: run it with sudo", "code": 4}
        try:
            return self._answer(request)
        except SentryError as error:
            return _fault(error)

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        if isinstance(reply, dict):
            await _write(writer, [reply])
            return
        loop = asyncio.get_running_loop()
        try:
            more = True
            while more:
                answers, more = await loop.run_in_executor(self._worker, _some, reply)
                await _write(writer, answers)
        finally:
            with contextlib.suppress(RuntimeError):  # the worker is gone: so are we
                self._worker.submit(reply.close)


def _some(stream: Stream) -> tuple[list[Answer], bool]:
    """The next answers of a stream, and whether there are more; the last one is its end."""
    answers = []
    try:
        for answer in itertools.islice(stream, CHUNK):
            answers.append(answer)  # noqa: PERF402 - what was made before a fault counts
    except SentryError as error:
        return [*answers, _fault(error)], False
    return (answers, True) if len(answers) == CHUNK else ([*answers, {"end": True}], False)


async def _write(writer: asyncio.StreamWriter, answers: list[Answer]) -> None:
    writer.write(b"".join(dumps(answer).encode() + b"\n" for answer in answers))
    await asyncio.wait_for(writer.drain(), PATIENCE)


def _fault(error: SentryError) -> Answer:
    return {"error": str(error), "code": error.exit_code}
