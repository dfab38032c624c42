"""The server of the control socket, for any number of requests at once.

The kernel names the caller (SO_PEERCRED). Root and the daemon's own user may ask anything; members
of the daemon's group, `sentryfw`, what changes nothing (READ_ONLY); one of them, the user of the
link to a fleet's hub, may carry signed entries as well (CARRIED). Other users get no answer; the
socket's mode keeps them out already. A daemon that runs as root has no such group.

Silent clients of one user cannot keep the others out: each user has a few places, some are kept for
root and the daemon's own user, and a request has to arrive at once.

See docs/decisions.md: streams, control-places.
"""

import asyncio
import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sentryfw.control.client import ANSWER_TIMEOUT_S, MAX_LINE_BYTES, Request
from sentryfw.control.framing import encode
from sentryfw.control.peer import Peer, peer_of, readers_group
from sentryfw.errors import SentryError

MAX_CLIENTS: Final = 16
MAX_CLIENTS_PER_USER: Final = 4
MAX_KEPT_CLIENTS: Final = 4
"""Places for root and the daemon's own user alone."""
REQUEST_TIMEOUT_S: Final = 0.5
"""Seconds for a request to arrive; the client sends it in the moment in which it connects."""
STREAM_BATCH: Final = 64
"""Answers of a stream that are made before other streams get their turn."""
READ_ONLY: Final = frozenset((
    "status", "kernel", "list", "count", "today", "explain", "watch", "sources", "config",
    "metrics",
))  # fmt: skip
"""Requests that change nothing, open to the group."""
CARRIED: Final = frozenset(("fleet-wait", "fleet-incoming", "fleet-part", "fleet-positions"))
"""Requests of the link: the daemon checks the signature of each entry that it brings."""

T = TypeVar("T")

Item = Mapping[str, Any]
"""One answer: a JSON object."""
Stream = Generator[Item, None, None]
"""Answers that take time, made in a thread off the packet path, as fast as they are read."""
Reply = Item | Stream | Coroutine[Any, Any, Item]
"""A coroutine runs in the loop; its answer is sent when it is done."""


class ControlServer:
    """Answers on a UNIX socket from inside the daemon's loop."""

    def __init__(
        self, path: Path, answer: Callable[[Request], Reply], link: int | None = None
    ) -> None:
        """`link`: user id of the link to a fleet's hub."""
        self._link = link
        self._path = path
        self._answer = answer
        self._clients: Counter[int] = Counter()
        """Connections by user."""
        self.refused = 0
        """Clients that found no place."""
        self._server: asyncio.AbstractServer | None = None
        self._worker = ThreadPoolExecutor(1, "control")

    async def start(self) -> None:
        """Listen. Raise SentryError if the socket cannot be made."""
        # The lock is ours by now, so a socket that is there was left by a daemon that was killed.
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o117 if readers_group() else 0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=MAX_LINE_BYTES
            )
        except OSError as error:
            raise SentryError(f"{self._path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run work in the thread of the streams. Raise RuntimeError after stop()."""
        return self._worker.submit(work)

    def stop(self) -> None:
        """Close and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if not peer.may_read:
            writer.close()
            return
        if not self._has_place(peer):
            self.refused += 1
            writer.write(encode({"error": "too many clients at once: try again"}))
            writer.close()
            return
        self._clients[peer.uid] += 1
        try:
            reply = await self._replied(reader, peer)
            if isinstance(reply, Coroutine):
                reply = await _awaited(reply)
            await self._send(reply, writer)
        except (TimeoutError, ValueError, ConnectionError):
            pass  # the client sent too much, did not read, or left
        finally:
            self._clients[peer.uid] -= 1
            writer.close()

    async def _replied(self, reader: asyncio.StreamReader, peer: Peer) -> Reply:
        try:
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
        except TimeoutError:
            return {"error": f"the request did not come within {REQUEST_TIMEOUT_S:g} s: try again"}
        return self._reply(line, peer)

    def _has_place(self, peer: Peer) -> bool:
        total = self._clients.total()
        if peer.may_change:
            return total < MAX_CLIENTS
        if self._clients[peer.uid] >= MAX_CLIENTS_PER_USER:
            return False
        own = sum(self._clients[uid] for uid in {0, os.geteuid()})
        return total - own < MAX_CLIENTS - MAX_KEPT_CLIENTS and total < MAX_CLIENTS

    def _reply(self, line: bytes, peer: Peer) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "not JSON"}
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object"}
        verb = request.get("do")
        open_to_it = READ_ONLY | CARRIED if peer.uid == self._link else READ_ONLY
        if not peer.may_change and not (isinstance(verb, str) and verb in open_to_it):
            return {"error": "only root may ask that: run it with sudo", "code": 4}
        try:
            return self._answer(request)
        except SentryError as error:
            return _fault(error)

    async def _send(self, reply: Item | Stream, writer: asyncio.StreamWriter) -> None:
        if not isinstance(reply, Generator):
            await _write(writer, [reply])
            return
        loop = asyncio.get_running_loop()
        try:
            more = True
            while more:
                answers, more = await loop.run_in_executor(self._worker, _next_batch, reply)
                await _write(writer, answers)
        finally:
            with contextlib.suppress(RuntimeError):  # the worker was shut down by stop()
                self._worker.submit(reply.close)


def _next_batch(stream: Stream) -> tuple[list[Item], bool]:
    """Return the next answers of a stream, and whether there are more; the last one is its end."""
    answers: list[Item] = []
    try:
        for answer in itertools.islice(stream, STREAM_BATCH):
            answers.append(answer)  # noqa: PERF402 - answers made before a fault count
    except SentryError as error:
        return [*answers, _fault(error)], False
    return (answers, True) if len(answers) == STREAM_BATCH else ([*answers, {"end": True}], False)


async def _write(writer: asyncio.StreamWriter, answers: list[Item]) -> None:
    writer.write(b"".join(encode(answer) for answer in answers))
    await asyncio.wait_for(writer.drain(), ANSWER_TIMEOUT_S)


def _fault(error: SentryError) -> Item:
    return {"error": str(error), "code": error.exit_code}


async def _awaited(reply: Coroutine[Any, Any, Item]) -> Item:
    try:
        return await reply
    except SentryError as error:
        return _fault(error)
