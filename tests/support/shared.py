"""One lab with one daemon for many tests: the state of one test is removed before the next.

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
    """The lab, the daemon, and the numbers of events and packets when a test began."""

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

    def clear(self) -> None:
        """Remove blocks, evidence, partners, connections and sockets."""
        lab = self.lab
        lab.close_sockets()
        lab.victim.run("conntrack", "-F")
        drain(self.sentry)
        for blocked in list(lab.table.sets.blocked_sources()):
            lab.table.sets.unblock(parse_source(blocked.address))
            self.sentry.ask(do="release", address=blocked.address)
        for source in SOURCES:
            self.sentry.release(source)
        for name in FORGETFUL:
            for family in (4, 6):
                lab.nft("flush", "set", "inet", "sentryfw", f"{name}{family}")
        lab.wire.received()
        self._events = len(self.sentry.events())
        self._counters = {n: c.packets for n, c in lab.table.counters().items()}

    def count(self, name: str) -> int:
        """Return the packets that a named counter counted in this test."""
        return self.lab.count(name) - self._counters[name]

    def alerts(self) -> list[dict[str, object]]:
        """Return the blocks and refusals of this test, of all sources."""
        events = self.sentry.events()[self._events :]
        return [event["sentryfw"] for event in events if event["event_type"] == "alert"]

    def await_alert(self, seconds: float = 20.0) -> dict[str, object]:
        """Wait for an alert; return the last one."""
        return wait_for(self.alerts, "a block or a refusal", seconds)[-1]

    def assert_quiet(self) -> None:
        """Wait until all is judged; assert that no source was blocked or would have been."""
        drain(self.sentry)
        status = self.sentry.status()
        assert [blocked.address for blocked in self.lab.table.sets.blocked_sources()] == []
        assert self.alerts() == [], status["engine"]
        assert status["queue"]["failures"] == 0


def accept(listener: socket.socket) -> socket.socket:
    """Accept the next connection of a listener within 5 s."""
    listener.settimeout(5)
    return listener.accept()[0]
