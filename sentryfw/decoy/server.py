"""The decoy process: accepts, reports to the daemon, sends the banner, reads a little, closes or
keeps the visitor.

process.py starts it with its sockets open. It gives up all privileges before it accepts.

    python -m sentryfw.decoy.server '{"report": 3, "tcp": [4, 5], "udp": [], ...}'
"""

import json
import os
import selectors
import socket
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from sentryfw.decoy import sandbox
from sentryfw.decoy.hold import RESET, Holds, is_of_browser
from sentryfw.decoy.wire import CONNECTED, MAX_PAYLOAD, PAYLOAD, REQUEST, Visit, encode

SO_ORIGINAL_DST: Final = 80
"""linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST has the same number."""
SOL_IPV6: Final = 41
FIRST_BYTES_S: Final = 1.0
"""Seconds for which a visitor's first bytes are awaited before it is reported. A browser sends them
with the end of its handshake, or a retransmission later; a scanner closes at once."""
ACCEPT_BATCH: Final = 64
"""Connections accepted, or datagrams read, before other sockets get their turn."""
MAX_ANSWERS_PER_S: Final = 20
"""Datagrams that are answered in one second, so that the decoy is useless as an amplifier."""
ANSWER_INTERVAL_S: Final = 60.0
"""Seconds between two answers to one address."""
MAX_ANSWERED: Final = 1024
"""Addresses whose last answer is remembered."""
MIN_CLIENT_PORT: Final = 1024
"""A datagram from a lower port comes from a service, which would answer the banner."""
SPARE_COUNT: Final = 32
"""Descriptors in addition to those of visitors."""


class DecoyServer:
    """The listening sockets, and the visitors that are connected."""

    def __init__(self, options: dict[str, Any]) -> None:
        """`options`: see process.Decoys; sockets are given by descriptor."""
        self._report = socket.socket(fileno=options["report"])
        self._banner = str(options["banner"]).encode()
        self._connections = int(options["connections"])
        self._timeout = float(options["timeout"])
        self._selector = selectors.DefaultSelector()
        self._visitors: OrderedDict[socket.socket, tuple[float, Visit]] = OrderedDict()
        """Visitors in the order of their arrival, which is that of their end."""
        self._unreported: OrderedDict[socket.socket, float] = OrderedDict()
        """Those whose first bytes are awaited, with the end of that."""
        self._holds = Holds(float(options["hold"]))
        self._answered: OrderedDict[str, float] = OrderedDict()
        self._second = 0.0
        self._answers = 0
        for kind, handler in (("tcp", self._accept), ("udp", self._answer)):
            for descriptor in options[kind]:
                listening = socket.socket(fileno=descriptor)
                listening.setblocking(False)
                self._selector.register(listening, selectors.EVENT_READ, handler)
        self._report.setblocking(False)
        self._selector.register(self._report, selectors.EVENT_READ, self._end)
        self._selector.register(
            self._holds, selectors.EVENT_READ, lambda _: self._holds.close_left()
        )

    def run(self) -> None:
        """Serve until the daemon is gone."""
        while True:
            for key, _ in self._selector.select(self._wait_s()):
                key.data(key.fileobj)
            self._expire()
            self._holds.expire()

    def _wait_s(self) -> float | None:
        """Return the seconds until a visitor is reported or dismissed; None if there is none."""
        first = next((end for end, _ in self._visitors.values()), None)
        report = next(iter(self._unreported.values()), None)
        ends = [end for end in (first, report, self._holds.first_end) if end is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, peer = listening.accept()
            except OSError:  # no more, or reset already, or no descriptor left
                return
            try:
                self._welcome(connection, peer[0], peer[1])
            except OSError:  # reset during this
                connection.close()

    def _welcome(self, connection: socket.socket, source: str, sport: int) -> None:
        """Send the banner and await the visitor's first bytes; report it at once where that
        fails, so that an immediate disconnect still counts."""
        connection.setblocking(False)
        visit = _visit(connection, source, sport)
        if visit is None:  # not redirected: a connection to the decoy's own port
            connection.close()
            return
        is_full = len(self._visitors) + len(self._holds) >= self._connections
        try:
            if self._banner:
                connection.send(self._banner)
            if is_full and not self._holds.give_up_oldest():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()
            else:
                self._selector.register(connection, selectors.EVENT_READ, self._read)
                now = time.monotonic()
                self._visitors[connection] = (now + self._timeout, visit)
                self._unreported[connection] = now + min(FIRST_BYTES_S, self._timeout)
        finally:
            if connection not in self._visitors:
                self._send_report(visit)

    def _read(self, connection: socket.socket) -> None:
        """Report the first bytes of a visitor, and dismiss or keep it."""
        _, visit = self._visitors[connection]
        flags = socket.MSG_PEEK if self._holds.is_wanted else 0  # what is read opens the window
        try:
            payload = connection.recv(MAX_PAYLOAD, flags)
        except BlockingIOError:
            return
        except OSError:
            payload = b""
        is_request = bool(payload) and is_of_browser(payload)
        self._report_visitor(connection, REQUEST if is_request else CONNECTED)
        if payload:
            self._send_report(visit._replace(kind=PAYLOAD, payload=payload))
        self._dismiss(connection, keep=bool(payload) and not is_request)

    def _report_visitor(self, connection: socket.socket, kind: int) -> None:
        """Report a visitor, if it was not reported yet."""
        if self._unreported.pop(connection, None) is not None:
            _, visit = self._visitors[connection]
            self._send_report(visit._replace(kind=kind))

    def _expire(self) -> None:
        """Report the visitors that have sent nothing in time; later keep or dismiss them."""
        now = time.monotonic()
        while self._unreported:
            connection, end = next(iter(self._unreported.items()))
            if end > now:
                break
            self._report_visitor(connection, CONNECTED)
        while self._visitors:
            connection, (end, _) = next(iter(self._visitors.items()))
            if end > now:
                return
            self._dismiss(connection, keep=True)

    def _dismiss(self, connection: socket.socket, *, keep: bool) -> None:
        """Dismiss a visitor; `keep`: keep it instead, where visitors are kept."""
        del self._visitors[connection]
        self._selector.unregister(connection)
        try:
            if keep and self._holds.is_wanted:
                self._holds.add(connection)
                return
        except OSError:  # reset during this
            pass
        connection.close()

    def _answer(self, listening: socket.socket) -> None:
        """Answer datagrams with the banner; nft has judged them before."""
        for _ in range(ACCEPT_BATCH):
            try:
                _, address = listening.recvfrom(1)
                if self._may_answer(address[0], address[1]):
                    listening.sendto(self._banner, address)
            except OSError:  # no more, or the answer cannot be sent
                return

    def _may_answer(self, address: str, port: int) -> bool:
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._answers = now, 0
        last = self._answered.get(address)
        if port < MIN_CLIENT_PORT or self._answers >= MAX_ANSWERS_PER_S:
            return False
        if last is not None and now - last < ANSWER_INTERVAL_S:
            return False
        self._answers += 1
        self._answered[address] = now
        self._answered.move_to_end(address)
        if len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
        return True

    def _end(self, _: socket.socket) -> None:
        """Exit: the daemon sends nothing, so its end was closed."""
        sys.exit(0)

    def _send_report(self, visit: Visit) -> None:
        """Send a report without waiting; one that finds no room is lost, the next one counts."""
        try:
            self._report.send(encode(visit))
        except BlockingIOError:
            return
        except OSError:
            sys.exit(0)  # the daemon is gone


def _visit(connection: socket.socket, source: str, sport: int) -> Visit | None:
    """Return the visit of a connection; None if it was not redirected.

    The source comes from accept(2): getpeername(2) fails on a connection that was reset since.
    """
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
    """Give up all privileges and serve; the options are JSON in the first argument."""
    options = json.loads(sys.argv[1])
    try:
        sandbox.shed_capabilities()
        with Path(os.devnull).open("w") as silence:
            sandbox.enter(int(options["connections"]) + SPARE_COUNT, int(options["parent"]))
            os.dup2(
                silence.fileno(), sys.stderr.fileno()
            )  # stderr must not lead to the daemon's log
    except OSError as error:
        sys.exit(f"decoy: {error}: it does not run with privileges")
    DecoyServer(options).run()


if __name__ == "__main__":
    main()
