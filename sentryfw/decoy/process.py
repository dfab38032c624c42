"""The daemon's side of the decoys: opens their sockets, starts their process, reads its reports.

See docs/decisions.md: decoy-redirect.
"""

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

from sentryfw.config.decoy import Decoy
from sentryfw.decoy.hold import prepare
from sentryfw.decoy.wire import MESSAGE, PAYLOAD, Visit, decode
from sentryfw.errors import SentryError

SO_MARK: Final = 36
ACCEPT_LIMIT: Final = 128
"""Connections that may wait to be accepted."""
MESSAGE_BATCH: Final = 64
"""Messages that are read before packets get their turn."""
RESTART_INTERVAL_S: Final = 5.0
"""Seconds between two starts of the process."""
STOP_TIMEOUT_S: Final = 0.5

log: Final = logging.getLogger("sentryfwd")


class Decoys:
    """The decoy process, and its sockets, which outlive it."""

    def __init__(self, config: Decoy, mark: int) -> None:
        """Listen and start the process; `mark`: SO_MARK of the listening sockets.

        Raise SentryError if the port is in use.
        """
        self._mark = mark
        self._config = config
        self._sockets: list[socket.socket] = []
        self._tcp = self._listen(socket.SOCK_STREAM) if config.tcp else []
        self._udp = self._listen(socket.SOCK_DGRAM) if config.udp and config.banner else []
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.garbled = 0
        """Messages that were not valid."""
        self.visits = 0
        """Finished handshakes; what a visitor sent is a second message of the same visit."""
        self.restarts = 0
        self._process = self._start()
        self._started = time.monotonic()

    def fileno(self) -> int:
        """Return the descriptor on which reports arrive."""
        return self._ours.fileno()

    def receive(self) -> Iterator[Visit]:
        """Yield the visits reported since, at most MESSAGE_BATCH of them."""
        for _ in range(MESSAGE_BATCH):
            try:
                message = self._ours.recv(MESSAGE.size + 1)
            except OSError:  # no more messages
                return
            visit = decode(message, self._config.tcp)
            if visit is None:
                self.garbled += 1
            else:
                self.visits += visit.kind != PAYLOAD
                yield visit

    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def revive(self) -> str | None:
        """Start the process again if it ended; return a message about that, else None."""
        if self.is_running() or time.monotonic() - self._started < RESTART_INTERVAL_S:
            return None
        status = self._process.returncode
        self._process = self._start()
        self._started = time.monotonic()
        self.restarts += 1
        return f"the decoy process ended with status {status} and was started again"

    def status(self) -> dict[str, Any]:
        """Return whether the process runs, and its counters."""
        return {
            "running": self.is_running(),
            "visits": self.visits,
            "garbled": self.garbled,
            "restarts": self.restarts,
        }

    def close(self) -> None:
        """End the process and close its sockets."""
        self._process.kill()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the decoy process did not exit after SIGKILL")
        for opened in (*self._sockets, self._ours, self._theirs):
            opened.close()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start an interpreter with nothing of the daemon's memory, and only these descriptors."""
        config = self._config
        inherited = [self._theirs, *self._tcp, *self._udp]
        options = {
            "report": self._theirs.fileno(),
            "parent": os.getpid(),
            "tcp": [listening.fileno() for listening in self._tcp],
            "udp": [listening.fileno() for listening in self._udp],
            "banner": config.banner,
            "connections": config.connections,
            "timeout": config.timeout,
            "hold": config.hold or 0.0,
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "sentryfw.decoy.server", json.dumps(options)],
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
                for opened in self._sockets:
                    opened.close()
                raise SentryError(
                    f"decoys: port {self._config.port}: {error.strerror}: set [decoy] port"
                ) from error
            found.append(listening)
        return found

    def _bind(self, listening: socket.socket, family: int, address: str) -> None:
        listening.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if listening.type == socket.SOCK_STREAM:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._config.hold:
                prepare(listening)
        listening.bind((address, self._config.port))
        if listening.type == socket.SOCK_STREAM:
            listening.listen(ACCEPT_LIMIT)
