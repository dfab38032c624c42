"""The daemon's end of the decoy: opens its sockets, starts it, hears it, starts it anew."""

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from sentryfw.config import DECOY_MARK, Decoy
from sentryfw.decoy.wire import MESSAGE, Visit, decode
from sentryfw.errors import SentryError

SO_MARK: Final = 36
BACKLOG: Final = 128
BUDGET: Final = 64
"""Messages heard before packets get their turn."""
RESTART_PAUSE: Final = 5.0
STOP_PATIENCE: Final = 0.5

log: Final = logging.getLogger("sentryfwd")


class Decoys:
    """A process, and the sockets that outlive it. SentryError where the port is taken."""

    def __init__(self, settings: Decoy) -> None:
        self._settings = settings
        self._sockets: list[socket.socket] = []
        self._tcp = self._listen(socket.SOCK_STREAM) if settings.tcp else []
        self._udp = self._listen(socket.SOCK_DGRAM) if settings.udp and settings.banner else []
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.garbled = 0
        """Messages that were none."""
        self.visits = 0
        self.restarts = 0
        self._process = self._start()
        self._started = time.monotonic()

    def fileno(self) -> int:
        return self._ours.fileno()

    def receive(self) -> Iterator[Visit]:
        """What was said since, at most BUDGET messages."""
        for _ in range(BUDGET):
            try:
                message = self._ours.recv(MESSAGE.size + 1)
            except OSError:  # nothing more
                return
            visit = decode(message, self._settings.tcp)
            if visit is None:
                self.garbled += 1
            else:
                self.visits += 1
                yield visit

    def is_running(self) -> bool:
        return self._process.poll() is None

    def revive(self) -> str | None:
        """Start it anew if it ended; what is to be said of it."""
        if self.is_running() or time.monotonic() - self._started < RESTART_PAUSE:
            return None
        status = self._process.returncode
        self._process = self._start()
        self._started = time.monotonic()
        self.restarts += 1
        return f"the decoy ended with status {status} and was started again"

    def status(self) -> dict[str, Any]:
        return {
            "running": self.is_running(),
            "visits": self.visits,
            "garbled": self.garbled,
            "restarts": self.restarts,
        }

    def close(self) -> None:
        """End the process, and give the port back."""
        self._process.kill()
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            log.warning("the decoy does not end")
        for opened in (*self._sockets, self._ours, self._theirs):
            opened.close()

    def _start(self) -> subprocess.Popen[bytes]:
        """A Python of its own: nothing of the daemon's memory, and only these descriptors."""
        settings = self._settings
        inherited = [self._theirs, *self._tcp, *self._udp]
        words = {
            "report": self._theirs.fileno(),
            "parent": os.getpid(),
            "tcp": [listening.fileno() for listening in self._tcp],
            "udp": [listening.fileno() for listening in self._udp],
            "banner": settings.banner,
            "connections": settings.connections,
            "timeout": settings.timeout,
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "sentryfw.decoy.server", json.dumps(words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={},
            pass_fds=[opened.fileno() for opened in inherited],
        )

    def _listen(self, kind: int) -> list[socket.socket]:
        found = []
        for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
            try:
                listening = socket.socket(family, kind)
            except OSError:  # a host without IPv6, or without IPv4
                continue
            self._sockets.append(listening)
            try:
                self._bind(listening, family, address)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:  # IPv6 is switched off
                    continue
                raise SentryError(
                    f"decoys: port {self._settings.port}: {error.strerror}: set [decoy] port"
                ) from error
            found.append(listening)
        return found

    def _bind(self, listening: socket.socket, family: int, address: str) -> None:
        listening.setsockopt(socket.SOL_SOCKET, SO_MARK, DECOY_MARK)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if listening.type == socket.SOCK_STREAM:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, self._settings.port))
        if listening.type == socket.SOCK_STREAM:
            listening.listen(BACKLOG)
