"""The reactions of one daemon: hands each decision to those that are configured.

The packet path only puts a value into a queue (hand_over); a thread makes words of it and deals
it out. Nothing that is configured: no thread, no work.
"""

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from sentryfw.config_respond import Respond
from sentryfw.engine.model import Block, Refusal
from sentryfw.errors import SentryError
from sentryfw.respond.incident import Incident, incident_of
from sentryfw.respond.lane import Failed, Lane, Report, Reporter, Work, reason_of

BACKLOG: Final = 20_000
"""Decisions that may wait to be dealt out."""
STOP_PATIENCE: Final = 0.3
SLACK: Final = 1.0
"""Seconds after a timeout when the kernel is asked whether the block has ended."""
LOOK_AGAIN: Final = 60.0
"""Seconds until it is asked again, where the block was made longer."""
MAX_PAUSE: Final = 3600.0

Network = IPv4Network | IPv6Network


class Collector(Protocol):
    """A reaction that is told of each incident."""

    reporter: Reporter

    @property
    def waiting(self) -> int: ...
    def start(self) -> None: ...
    def put(self, incident: Incident) -> object: ...
    def stop(self, deadline: float) -> None: ...


class Keeper(Protocol):
    """A reaction that lasts as long as a block."""

    reporter: Reporter

    @property
    def waiting(self) -> int: ...
    def start(self) -> None: ...
    def want(self, address: str, *, present: bool) -> None: ...
    def want_exactly(self, addresses: set[str]) -> None: ...
    def stop(self, deadline: float) -> None: ...


class Hooks(NamedTuple):
    """What the daemon gives its reactions."""

    report: Report
    named: Callable[[str, str], None]
    """(address, host): a name was found."""
    is_blocked: Callable[[str], bool]
    """Called in the responder's thread only."""


class _Decided(NamedTuple):
    decision: Block | Refusal
    at: float
    epoch: float
    is_before: bool


class _Named(NamedTuple):
    incident: Incident


class _Ended(NamedTuple):
    address: str | None
    """None: every block."""


class _Began(NamedTuple):
    address: str
    timeout: float


_Item = _Decided | _Named | _Ended | _Began | None


class Responder:
    """Deals out incidents, and knows when blocks end."""

    def __init__(
        self,
        settings: Respond,
        hooks: Hooks,
        never_block: Iterable[Network],
        prefix: str = "a",
        helper: Path | None = None,
    ) -> None:
        """`helper`: the socket of the program that does what needs root; None: we are root."""
        self._settings = settings
        self._hooks = hooks
        self._never_block = tuple(never_block)
        self._prefix = prefix
        self._helper = helper
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._ends: list[tuple[float, str]] = []
        self._alive: dict[str, float] = {}
        self._lost = Reporter("respond", hooks.report, quiet=True)
        self._command: Collector | None = None
        self._names: Lane | None = None
        self._tellers: list[Collector] = []
        """Reactions in words: they are given the host's name, where it is asked for."""
        self._keepers: list[Keeper] = []
        self._end_commands: Callable[[], None] = lambda: None
        self._build()
        self._thread = threading.Thread(target=self._run, name="respond", daemon=True)

    # --- called by the daemon; none of these waits

    def protect(self, never_block: Iterable[Network]) -> None:
        """Who is never blocked from now on."""
        self._never_block = tuple(never_block)

    @property
    def is_needed(self) -> bool:
        return bool(self._command or self._names or self._tellers or self._keepers)

    @property
    def wants_before(self) -> bool:
        """Whether the command is to be told before a block is made."""
        return self._command is not None and self._settings.command.when == "before"

    def start(self) -> None:
        if self.is_needed:
            for part in self._parts():
                part.start()
            self._thread.start()

    def hand_over(
        self, decision: Block | Refusal, at: float, epoch: float, *, is_before: bool = False
    ) -> None:
        """A decision. `is_before`: the block is about to be made; for the command alone."""
        if not self.is_needed:
            return
        if self._inbox.qsize() >= BACKLOG:
            self._lost.failure("", f"{BACKLOG} decisions wait: no reactions to more")
        else:
            self._inbox.put(_Decided(decision, at, epoch, is_before))

    def began(self, address: str, timeout: float) -> None:
        """A block was made by hand."""
        if self._keepers:
            self._inbox.put(_Began(address, timeout))

    def ended(self, address: str | None) -> None:
        """A block, or every block, ended before its time."""
        if self._keepers:
            self._inbox.put(_Ended(address))

    def restore(self, alive: dict[str, float]) -> None:
        """Blocks that are alive at the start, with the seconds left. Before start()."""
        spared = [address for address in alive if self._spared(address)]
        for keeper in self._keepers:
            keeper.want_exactly(alive.keys() - spared)
        for address, seconds in alive.items():
            self._expect_end(address, seconds)

    def withdraw(self, kept: Respond) -> None:
        """Take back what lasts as long as a block, where another configuration does not want it,
        or wants it elsewhere. Before stop()."""
        for keeper in self._keepers:
            name = keeper.reporter.name
            if getattr(kept, name) != getattr(self._settings, name):
                keeper.want_exactly(set())

    def stop(self) -> None:
        """Give what is under way a moment, then end it."""
        if not self.is_needed or not self._thread.is_alive():
            return
        deadline = time.monotonic() + STOP_PATIENCE
        self._inbox.put(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        parts = self._parts()
        if self._command is not None:
            self._end_commands()
        for part in parts:
            part.stop(deadline)

    def status(self) -> dict[str, Any]:
        """What each reaction has done, and what waits for it."""
        return {
            part.reporter.name: {
                "done": part.reporter.done,
                "failed": part.reporter.failed,
                "waiting": part.waiting,
            }
            for part in self._parts()
        }

    # --- what there is

    def _parts(self) -> list[Collector | Keeper]:
        single = [part for part in (self._command, self._names) if part is not None]
        return [*single, *self._tellers, *self._keepers]

    def _build(self) -> None:
        """Modules are loaded for what is configured only: the daemon stays small."""
        settings, report = self._settings, self._hooks.report
        if settings.command.argv:
            self._build_command(report)
        if settings.log.to != "off":
            from sentryfw.respond.local import LocalLogger  # noqa: PLC0415

            self._tellers.append(Lane("log", LocalLogger(settings.log), report, quiet=True))
        if settings.history.format != "off":
            from sentryfw.respond.history import HistoryFile  # noqa: PLC0415

            self._tellers.append(Lane("history", HistoryFile(settings.history), report, quiet=True))
        if settings.syslog.host:
            from sentryfw.respond.syslog import SyslogSender  # noqa: PLC0415

            self._tellers.append(SyslogSender(settings.syslog, report))
        if settings.mail.to:
            from sentryfw.respond.mail import Mailer  # noqa: PLC0415

            self._tellers.append(Mailer(settings.mail, report))
        if settings.hosts_deny.enabled:
            self._build_hosts_deny(report)
        if settings.route.enabled:
            from sentryfw.respond.mirror import Mirror  # noqa: PLC0415
            from sentryfw.respond.route import Routes  # noqa: PLC0415

            routes = Routes()
            self._keepers.append(
                Mirror("route", routes.apply, routes.sync, report, close=routes.close)
            )
        if settings.dns.enabled:
            self._build_names(report)

    def _build_command(self, report: Report) -> None:
        if self._helper is not None:
            from sentryfw.respond.helper import Helper  # noqa: PLC0415

            work: Work = Helper(self._helper, self._settings).run_command
        else:
            from sentryfw.respond.command import CommandRunner  # noqa: PLC0415

            runner = CommandRunner(self._settings.command)
            self._end_commands = runner.kill
            work = runner
        workers = self._settings.command.concurrency
        self._command = Lane("command", work, report, workers=workers)

    def _build_hosts_deny(self, report: Report) -> None:
        from sentryfw.respond.mirror import Mirror  # noqa: PLC0415

        if self._helper is not None:
            from sentryfw.respond.helper import Helper  # noqa: PLC0415

            helper = Helper(self._helper, self._settings)
            self._keepers.append(Mirror("hosts_deny", helper.apply, helper.sync, report))
        else:
            from sentryfw.respond.hosts_deny import HostsDeny  # noqa: PLC0415

            section = HostsDeny(self._settings.hosts_deny.path, self._settings.hosts_deny.line)
            self._keepers.append(Mirror("hosts_deny", section.apply, section.sync, report))

    def _build_names(self, report: Report) -> None:
        from sentryfw.respond.dns import Resolver  # noqa: PLC0415

        self._resolver = Resolver(self._settings.dns)
        self._names = Lane("dns", self._find_name, report, workers=4, limit=256, quiet=True)

    # --- the responder's thread

    def _run(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=self._patience())
                if item is None:
                    return
                self._deal_out(item)
            except queue.Empty:
                pass  # time to look for ends
            except Exception as error:  # noqa: BLE001 - reported; the next one is dealt out
                self._lost.failure("", reason_of(error))
            self._look_for_ends()

    def _deal_out(self, item: _Decided | _Named | _Ended | _Began) -> None:
        match item:
            case _Decided():
                self._decided(item)
            case _Named(incident):
                self._tell(incident)
            case _Began(address, timeout):
                self._keep(address, timeout)
            case _Ended(address):
                self._ended(address)

    def _decided(self, item: _Decided) -> None:
        incident = incident_of(item.decision, item.at, item.epoch, self._prefix)
        if self._names is not None:
            incident = incident._replace(host=self._resolver.cached(incident.ip) or "")
        if self._command is not None and self._is_commanded(incident, is_before=item.is_before):
            self._command.put(incident)
        if item.is_before:
            return
        if incident.action == "blocked":
            self._keep(incident.address, incident.timeout)
        if not self._is_named_first(incident):
            self._tell(incident)

    def _is_named_first(self, incident: Incident) -> bool:
        """Whether it comes back with its name; not where that is known, or too many wait."""
        if self._names is None or self._resolver.cached(incident.ip) is not None:
            return False
        return self._names.put(incident)

    def _is_commanded(self, incident: Incident, *, is_before: bool) -> bool:
        if incident.action == "refused":
            return incident.reason == "command"
        return is_before == self.wants_before

    def _tell(self, incident: Incident) -> None:
        for teller in self._tellers:
            teller.put(incident)

    def _find_name(self, incident: Incident) -> str:
        """In a thread of the lane; the incident goes on with its name, or without."""
        host = ""
        try:
            if time.time() - incident.at > self._settings.dns.timeout:
                raise Failed("too many wait for their names")
            host = self._resolver.resolve(incident.ip)
            if host:
                self._hooks.named(incident.address, host)
        finally:
            self._inbox.put(_Named(incident._replace(host=host)))
        return host or "no name"

    # --- ends of blocks

    def _keep(self, address: str, timeout: float) -> None:
        if not self._keepers:
            return
        spared = self._spared(address)
        for keeper in self._keepers:
            if spared:
                keeper.reporter.failure(address, f"covers {spared}, which is never blocked")
            else:
                keeper.want(address, present=True)
        self._expect_end(address, timeout)

    def _spared(self, address: str) -> Network | None:
        """A never-blocked network that a line or route for the address would hit; nft lets it
        past the block, these would not."""
        network = ip_network(address)
        for other in self._never_block:
            if other.version == network.version and other.overlaps(network):
                return other
        return None

    def _ended(self, address: str | None) -> None:
        for keeper in self._keepers:
            if address is None:
                keeper.want_exactly(set())
            else:
                keeper.want(address, present=False)
        if address is None:
            self._alive.clear()
            self._ends.clear()
        else:
            self._alive.pop(address, None)

    def _expect_end(self, address: str, seconds: float) -> None:
        if seconds <= 0:  # until it is unblocked
            self._alive.pop(address, None)
            return
        end = time.monotonic() + seconds + SLACK
        self._alive[address] = end
        heapq.heappush(self._ends, (end, address))

    def _patience(self) -> float:
        if not self._ends:
            return MAX_PAUSE
        return min(max(0.0, self._ends[0][0] - time.monotonic()), MAX_PAUSE)

    def _look_for_ends(self) -> None:
        while self._ends and self._ends[0][0] <= time.monotonic():
            end, address = heapq.heappop(self._ends)
            if self._alive.get(address) != end:
                continue  # blocked anew meanwhile, or unblocked
            try:
                is_blocked = self._hooks.is_blocked(address)
            except SentryError as error:
                self._lost.failure(address, reason_of(error))
                is_blocked = True
            if is_blocked:
                self._expect_end(address, LOOK_AGAIN)
            else:
                self._ended(address)
