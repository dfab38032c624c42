"""The decoy itself: a process of its own that accepts, tells the daemon, sends the banner, reads a
little, and closes. Started by process.py with its sockets open; has no privileges by then.

    python -m sentryfw.decoy.server '{"report": 3, "tcp": [4, 5], "udp": [], ...}'
"""

import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from sentryfw.decoy import sandbox
from sentryfw.decoy.wire import CONNECTED, MAX_PAYLOAD, PAYLOAD, Visit, encode

SO_ORIGINAL_DST: Final = 80
"""linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST has the same number."""
SOL_IPV6: Final = 41
BATCH: Final = 64
"""Connections taken, or datagrams read, before others get their turn."""
NO_LINGER: Final = struct.pack("ii", 1, 0)
ANSWERS: Final = 20
"""Datagrams that are answered in a second, at most: the decoy amplifies for nobody."""
ANSWER_PAUSE: Final = 60.0
"""Seconds between two answers to the same address."""
MAX_ANSWERED: Final = 1024
EPHEMERAL: Final = 1024
"""A datagram from a lower port comes from a service, which would answer the banner."""
SPARE: Final = 32
"""Descriptors beside those of visitors."""


class Decoy:
    """Every listening socket, and who is connected."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._report = socket.socket(fileno=settings["report"])
        self._banner = str(settings["banner"]).encode()
        self._connections = int(settings["connections"])
        self._timeout = float(settings["timeout"])
        self._selector = selectors.DefaultSelector()
        self._visitors: OrderedDict[socket.socket, tuple[float, Visit]] = OrderedDict()
        """In the order in which they came, and so in which they have to go."""
        self._answered: OrderedDict[str, float] = OrderedDict()
        self._second = 0.0
        self._answers = 0
        for kind, handler in (("tcp", self._accept), ("udp", self._answer)):
            for descriptor in settings[kind]:
                listening = socket.socket(fileno=descriptor)
                listening.setblocking(False)
                self._selector.register(listening, selectors.EVENT_READ, handler)
        self._report.setblocking(False)
        self._selector.register(self._report, selectors.EVENT_READ, self._end)

    def run(self) -> None:
        """Until the daemon is gone."""
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data(key.fileobj)
            self._expire()

    def _patience(self) -> float | None:
        """Seconds until somebody has stayed too long."""
        if not self._visitors:
            return None
        end, _ = next(iter(self._visitors.values()))
        return max(0.0, end - time.monotonic())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                connection, peer = listening.accept()
            except OSError:  # no more, or gone again, or no descriptor left
                return
            try:
                self._welcome(connection, peer[0], peer[1])
            except OSError:  # it went in the middle of it
                connection.close()

    def _welcome(self, connection: socket.socket, source: str, sport: int) -> None:
        """Told first: a visitor who is gone at once was here all the same."""
        connection.setblocking(False)
        visit = _visit(connection, source, sport)
        if visit is None:  # nobody was redirected: our own port
            connection.close()
            return
        self._tell(visit)
        if self._banner:
            connection.send(self._banner)
        if len(self._visitors) >= self._connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            connection.close()
            return
        self._visitors[connection] = (time.monotonic() + self._timeout, visit)
        self._selector.register(connection, selectors.EVENT_READ, self._read)

    def _read(self, connection: socket.socket) -> None:
        """The first bytes, and that is all."""
        _, visit = self._visitors[connection]
        try:
            payload = connection.recv(MAX_PAYLOAD)
        except BlockingIOError:
            return
        except OSError:
            payload = b""
        if payload:
            self._tell(visit._replace(kind=PAYLOAD, payload=payload))
        self._dismiss(connection)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._visitors:
            connection, (end, _) = next(iter(self._visitors.items()))
            if end > now:
                return
            self._dismiss(connection)

    def _dismiss(self, connection: socket.socket) -> None:
        del self._visitors[connection]
        self._selector.unregister(connection)
        connection.close()

    def _answer(self, listening: socket.socket) -> None:
        """The banner for a datagram, which nft judged before it came here."""
        for _ in range(BATCH):
            try:
                _, address = listening.recvfrom(1)
                if self._may_answer(address[0], address[1]):
                    listening.sendto(self._banner, address)
            except OSError:  # no more, or the way back is closed
                return

    def _may_answer(self, address: str, port: int) -> bool:
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._answers = now, 0
        last = self._answered.get(address)
        if port < EPHEMERAL or self._answers >= ANSWERS:
            return False
        if last is not None and now - last < ANSWER_PAUSE:
            return False
        self._answers += 1
        self._answered[address] = now
        self._answered.move_to_end(address)
        if len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
        return True

    def _end(self, _: socket.socket) -> None:
        """The daemon says nothing: its end was closed."""
        sys.exit(0)

    def _tell(self, visit: Visit) -> None:
        """Never waits: a report that finds no room is lost, and the next one is as good."""
        try:
            self._report.send(encode(visit))
        except BlockingIOError:
            return
        except OSError:
            sys.exit(0)  # the daemon is gone


def _visit(connection: socket.socket, source: str, sport: int) -> Visit | None:
    """Who came, and where they meant to go; None if they were not redirected. The peer is what
    accept(2) said: of a connection that was reset meanwhile getpeername(2) knows nothing."""
    if connection.family == socket.AF_INET:
        raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)  # struct sockaddr_in
        port, target = int.from_bytes(raw[2:4]), raw[4:8]
    else:
        raw = connection.getsockopt(SOL_IPV6, SO_ORIGINAL_DST, 28)  # struct sockaddr_in6
        port, target = int.from_bytes(raw[2:4]), raw[8:24]
    if port == connection.getsockname()[1]:
        return None
    address = socket.inet_pton(connection.family, source.partition("%")[0])
    return Visit(CONNECTED, address, sport, target, port)


def main() -> None:
    """As process.py calls it."""
    settings = json.loads(sys.argv[1])
    try:
        sandbox.shed_capabilities()
        with Path(os.devnull).open("w") as silence:
            sandbox.enter(int(settings["connections"]) + SPARE, int(settings["parent"]))
            os.dup2(silence.fileno(), sys.stderr.fileno())  # no way to the daemon's log
    except OSError as error:
        sys.exit(f"decoy: {error}: not run with privileges")
    Decoy(settings).run()


if __name__ == "__main__":
    main()
