"""One lab with one daemon for many tests: what one of them left is forgotten before the next.

Starting a daemon takes half a second, which is too long for a table of a hundred scans.
"""

import socket
from typing import Final, Self

from sentryfw.engine.model import parse_source
from support.lab import ATTACKER, BYSTANDER, Lab, Sentry, drain
from support.waiting import wait_for

SETTINGS: Final = """
[watch]
listed_sctp = [3868, "9900-9905"]
"""
FORGETFUL: Final = ("suspect", "partner", "fresh", "meter")
"""Sets that remember a source for a while."""
SOURCES: Final = (*ATTACKER.values(), *BYSTANDER.values())


class Shared:
    """The lab, the daemon, and how far its events and counters had come when a test began."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.sentry = Sentry(self.lab, SETTINGS)
        self._events = 0
        self._counters: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.sentry.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sentry.close()
        self.lab.__exit__()

    def start_anew(self) -> None:
        """No block, no evidence, no partner, no connection, nothing open."""
        lab = self.lab
        lab.close_sockets()
        lab.victim.run("conntrack", "-F")
        drain(self.sentry)
        for blocked in list(lab.table.blocked_sources()):
            lab.table.unblock(parse_source(blocked.address))
            self.sentry.ask(do="release", address=blocked.address)
        for source in SOURCES:
            self.sentry.ask(do="release", address=source)
        for name in FORGETFUL:
            for family in (4, 6):
                lab.nft("flush", "set", "inet", "sentryfw", f"{name}{family}")
        lab.wire.received()
        self._events = len(self.sentry.events())
        self._counters = {n: c.packets for n, c in lab.table.counters().items()}

    def count(self, name: str) -> int:
        """Packets that a named counter has seen in this test."""
        return self.lab.count(name) - self._counters[name]

    def alerts(self) -> list[dict[str, object]]:
        """Blocks and refusals of this test, of whatever source."""
        events = self.sentry.events()[self._events :]
        return [event["sentryfw"] for event in events if event["event_type"] == "alert"]

    def await_alert(self, seconds: float = 20.0) -> dict[str, object]:
        """The last one, once there is one."""
        return wait_for(self.alerts, "a block or a refusal", seconds)[-1]

    def assert_quiet(self) -> None:
        """Everything is judged; nobody was blocked, and nobody would have been."""
        drain(self.sentry)
        status = self.sentry.status()
        assert [blocked.address for blocked in self.lab.table.blocked_sources()] == []
        assert self.alerts() == [], status["engine"]
        assert status["queue"]["failures"] == 0


def accept(listener: socket.socket) -> socket.socket:
    """The next connection of a listener, soon."""
    listener.settimeout(5)
    return listener.accept()[0]
