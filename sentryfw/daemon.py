"""sentryfwd: the packet path, and what is scheduled around it.

    wire -> nft -> NFQUEUE -> on_packet -> block (acknowledged) -> verdict -> record

One thread judges; the recorder's thread writes. Ready only when table, queue and ledger are.
"""

import argparse
import errno
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentryfw import __version__, account, compiled, config, listing, privileges, stops
from sentryfw.config import Config
from sentryfw.config_metrics import Metrics
from sentryfw.control import Answer
from sentryfw.control_server import ControlServer, Reply, Stream
from sentryfw.decoy.process import Decoys
from sentryfw.decoy.wire import PAYLOAD, Visit, shown
from sentryfw.engine.decide import MAX_OFFENDERS
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Outcome, Source, address_text, parse_source, source_text
from sentryfw.errors import KernelError, SentryError
from sentryfw.keeper import Keeper
from sentryfw.lean import asyncio
from sentryfw.memory import text
from sentryfw.netfilter import host
from sentryfw.netfilter.apart import apart
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.nfqueue import MARK_MASK, MARK_MASK_INSIDE, Queued
from sentryfw.netfilter.queue import PacketQueue
from sentryfw.netfilter.table import Counter, IPNetwork, Table
from sentryfw.overload import Overload, QueueLoss
from sentryfw.plain import PlainFormatter, plain
from sentryfw.record.entry import Reaction, block_entry, probe_of, refusal_entry
from sentryfw.record.evidence import Evidence, Glimpses
from sentryfw.record.files import open_private, private_directory
from sentryfw.record.lasting import LastingEventFile, LastingLedger
from sentryfw.record.recorder import Recorder
from sentryfw.respond.lane import Result
from sentryfw.respond.responder import Hooks, Responder
from sentryfw.shelter import Shelter

if TYPE_CHECKING:
    from sentryfw.metrics.exporter import Exporter

log: Final = logging.getLogger("sentryfwd")
TICK: Final = 1.0
PAYLOADS: Final = 20
"""First bytes to decoys that are written down in a second."""
SWITCH: Final = 0.001
"""Seconds after which a thread that works beside the verdicts gives Python's lock away, where
they wait for it; 5 ms without this."""
clock: Final = time.monotonic
"""The engine's clock: it does not jump when the wall clock is set."""


class Reloaded(NamedTuple):
    """When the configuration in effect was loaded, and what stood against a later one."""

    at: float
    error: str


class Witness:
    """Asks the kernel through a socket of its own, for a thread of its own."""

    def __init__(self) -> None:
        self._table: Table | None = None

    def is_blocked(self, address: str) -> bool:
        if self._table is None:
            self._table = Table()
        return self._table.is_blocked(parse_source(address))


class Daemon:
    """Everything that lives as long as the daemon."""

    def __init__(self, settings: Config, path: Path | None = None) -> None:
        """`path`: where the configuration came from, for a reload; None: the default place."""
        self.config = settings
        self._path = path
        self._reloading = asyncio.Lock()
        self._hangups: set[asyncio.Task[None]] = set()
        self.reloaded = Reloaded(at=time.time(), error="")
        self._started = time.time()
        self._lag = 0.0
        self._exporter: Exporter | None = None
        stops.check(settings.paths.state, settings.paths.runtime)
        self._lock = _take_lock(settings.paths.lock)
        self.ledger = LastingLedger(settings.paths.ledger)
        evidence = open_evidence(settings)
        self.events = LastingEventFile(settings.paths.events)
        self.recorder = Recorder(self.ledger, self.events, evidence)
        self.glimpses = Glimpses(settings.evidence.packets if evidence else 0)
        self.table = Table()
        never_block = host.never_block(settings, host.remembered(self.ledger.protected()))
        self.keeper = Keeper(settings, self.table, self.recorder, self._released)
        with self.keeper.lock.held():
            self.divert: Divert = apart(lambda: _install(settings, never_block))
            self.keeper.prepare(self.ledger)
        networks = tuple(protected.network for protected in never_block)
        self.engine = Engine(settings.horizons(), settings.policy(networks))
        if settings.watch.inside:
            inside = settings.inside_horizons()
            self.engine.add_inside(inside, settings.inside_policy(networks))
        self.responder = self.make_responder(settings, never_block)
        self.shelter = Shelter(
            settings, self.table, self.keeper, self.recorder, never_block, self.protect,
            self._released,
        )  # fmt: skip
        self._restore()
        self.decoys = Decoys(settings.decoy) if settings.decoy.wanted else None
        self._payloads = PAYLOADS
        mask = MARK_MASK_INSIDE if settings.watch.inside else MARK_MASK
        self.queue = PacketQueue(
            settings.queue.number, settings.queue.max_len, self.on_packet, mask
        )
        self._failures = 0
        self._floods, self._told_flood = 0, False
        self.overload = Overload(self._overloaded, TICK)
        self._queue_loss = QueueLoss()
        self._queue_loss.look(self._queued(), self.queue.reader.received)

    # --- the packet path

    def on_packet(self, packet: Queued) -> None:
        """Judge one packet: the block is in the kernel before the verdict is given."""
        outcome = self.engine.handle(packet.payload, packet.meta, clock())
        acknowledged = self._enforce(outcome) if outcome.blocks else False
        packet.verdict = outcome.verdict
        if outcome.action != "pass":
            # Last, and handed to a thread: disk never delays a packet.
            self._record(outcome, packet.payload, acknowledged=acknowledged)

    def _enforce(self, outcome: Outcome) -> float | bool:
        """When the kernel acknowledged the blocks; False if it refused."""
        if self.responder.wants_before:
            for block in outcome.blocks:
                self.responder.hand_over(block, block.at, time.time() - clock(), is_before=True)
        try:
            self.table.block((block.source, block.timeout) for block in outcome.blocks)
        except KernelError as error:
            for block in outcome.blocks:
                self.engine.release(block.source)
            self.engine.counters["blocks failed"] += len(outcome.blocks)
            if error.code == errno.ENFILE:
                self.engine.counters["block set full"] += len(outcome.blocks)
                return False  # said once a minute (overload.py)
            self.recorder.note("block-failed", error=str(error))
            log.error("%s: not blocked, judged again at the next probe", error)
            return False
        return clock()

    def _record(
        self, outcome: Outcome, payload: bytes = b"", *, acknowledged: float | bool
    ) -> None:
        now = time.time()
        epoch = now - clock()
        if acknowledged:
            for block in outcome.blocks:
                self.responder.hand_over(block, acknowledged, epoch)
        for refusal in outcome.refusals:
            self.responder.hand_over(refusal, refusal.at, epoch)
        if outcome.probe is not None:
            self.recorder.sight(outcome.probe, now)
            self.glimpses.keep(outcome.probe, payload, now)
        if acknowledged:
            for block in outcome.blocks:
                self.keeper.blocked(block.source, block.timeout, acknowledged)
                entry = block_entry(block, acknowledged, epoch)
                self.recorder.append(entry)
                self.recorder.capture(entry, self.glimpses.take(block, payload, block.at + epoch))
                payload = b""  # the others' packets went with their first block
        for refusal in outcome.refusals:
            self.recorder.append(refusal_entry(refusal, epoch))

    # --- decoys

    def on_decoys(self, decoys: Decoys) -> None:
        """Judge what the decoys took: no verdict waits for it, the handshake is over."""
        for visit in decoys.receive():
            if visit.kind == PAYLOAD:
                self._keep_payload(visit)
                continue
            outcome = self.engine.handle_connect(visit.source, visit.target, visit.port, clock())
            acknowledged = self._enforce(outcome) if outcome.blocks else False
            if outcome.action != "pass":
                self._record(outcome, acknowledged=acknowledged)

    def _keep_payload(self, visit: Visit) -> None:
        if not self._payloads:
            return
        self._payloads -= 1
        self.recorder.note(
            "decoy", address=address_text(visit.source), port=visit.sport,
            target=address_text(visit.target), target_port=visit.port,
            payload=shown(visit.payload),
        )  # fmt: skip

    def _tick_decoys(self, decoys: Decoys) -> None:
        self._payloads = PAYLOADS
        said = decoys.revive()
        if said:
            log.error("%s", said)
            self.recorder.note("decoy-restarted", error=said)

    # --- reactions; called in the responder's threads

    def _reacted(self, result: Result) -> None:
        self.recorder.reaction(Reaction(*result))

    # --- another configuration (reload.py)

    async def reload(self) -> list[str]:
        """Take the configuration as it is on disk; the keys that changed. SentryError: it is
        refused, and the old one goes on."""
        from sentryfw import reload  # noqa: PLC0415 - memory that is needed when somebody asks

        async with self._reloading:
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            error = ""
            try:
                changed = await reload.reload(self, self._path)
            except SentryError as refusal:
                error = str(refusal)
                raise
            finally:
                notify("READY=1")
                self.reloaded = Reloaded(self.reloaded.at if error else time.time(), error)
                if error:
                    self.recorder.note("reload-refused", error=error)
                    log.error("reload refused, the old configuration goes on: %s", error)
            self.recorder.note("reload", changed=changed)
            log.info("reloaded: %s", ", ".join(changed) or "nothing has changed")
            return changed

    def _reload_in(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        """For who asks, in the socket's thread."""
        return asyncio.run_coroutine_threadsafe(self.reload(), loop).result()

    def _hang_up(self) -> None:
        """SIGHUP."""

        async def reload() -> None:
            with suppress(SentryError):  # it is in the log
                await self.reload()

        task = asyncio.get_running_loop().create_task(reload())
        self._hangups.add(task)
        task.add_done_callback(self._hangups.discard)

    def make_responder(self, settings: Config, protected: list[Protected]) -> Responder:
        hooks = Hooks(self._reacted, self.recorder.named, Witness().is_blocked)
        networks = [item.network for item in protected]
        prefix = "s" if settings.watch.mode == "traps" else "a"
        helper = settings.paths.helper if os.geteuid() else None
        return Responder(settings.respond, hooks, networks, prefix, helper)

    def make_evidence(self, settings: Config) -> Evidence | None:
        return open_evidence(settings)

    def watch_decoys(self, decoys: Decoys | None) -> None:
        """Hear these, and no longer the others."""
        loop = asyncio.get_running_loop()
        if self.decoys is not None:
            loop.remove_reader(self.decoys.fileno())
        self.decoys = decoys
        if decoys is not None:
            loop.add_reader(decoys.fileno(), self.on_decoys, decoys)

    async def expose(self, wanted: Metrics) -> None:
        """[metrics] as it is wanted now. SentryError: the address cannot be had."""
        if self._exporter is not None:
            self._exporter.stop(kept=wanted.textfile)
            self._exporter = None
        if wanted.wanted:
            from sentryfw.metrics.exporter import Exporter  # noqa: PLC0415 - where it is wanted

            exporter = Exporter(wanted, self._figures)
            await exporter.start()
            self._exporter = exporter

    def _figures(self) -> str:
        """For Prometheus; in a thread of its own, of what one look takes as it is."""
        from sentryfw.metrics import collect  # noqa: PLC0415 - where it is wanted

        counters: dict[str, Counter] = {}
        with suppress(SentryError), closing(Table()) as table:  # the table is being healed
            counters = table.counters()
        return collect.text(
            collect.State(
                self.status(), self.config, self._started, self.reloaded.at,
                not self.reloaded.error, self._lag, self.queue.reader.received,
                self.keeper.memory.ends.alive(clock()), dict(self.recorder.tally), counters,
            )
        )  # fmt: skip

    def alive(self) -> dict[str, float]:
        """The sources that are blocked, and the seconds left."""
        now = clock()
        return {text(key): end - now for key, (_, end) in self.keeper.memory.ends.items()}

    # --- around it

    async def run(self) -> None:
        """Judge until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self.recorder.start()
        self.responder.start()
        control = ControlServer(self.config.paths.control, self.answer)
        await control.start()
        loop.add_reader(self.queue.fileno(), self.queue.reader.receive)
        self.watch_decoys(self.decoys)
        try:
            await self.expose(self.config.metrics)
        except SentryError as error:  # a guard does not stay away for that
            self.recorder.note("metrics-failed", error=str(error))
            log.error("%s; there are no metrics until a reload", error)
        self.keeper.start()
        self.shelter.start()
        self.overload.look({}, clock())
        ticker = loop.create_task(self._tick())
        gc.collect()
        gc.freeze()  # what lives as long as we do need not be looked at again
        self.recorder.note("start", version=__version__, divert=self.divert)
        log.info("ready: divert %s, queue %d", self.divert, self.config.queue.number)
        notify("READY=1")
        try:
            await self._stopped.wait()
        finally:
            notify("STOPPING=1")
            ticker.cancel()
            loop.remove_reader(self.queue.fileno())
            if self.decoys is not None:
                loop.remove_reader(self.decoys.fileno())
            control.stop()
            if self._exporter is not None:
                self._exporter.stop()
            self.shelter.close()
            self.keeper.close()
            self.close()

    def close(self) -> None:
        """Give back what the kernel lent; timed blocks stay, the queue rule bypasses."""
        self.queue.close()
        if self.decoys is not None:
            self.decoys.close()
        self.table.close()
        self.responder.stop()
        self.recorder.note("stop")
        self.recorder.stop()

    async def _tick(self) -> None:
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            self._lag = max(0.0, clock() - due)
            self.engine.tick(clock())
            self._tell_flood()
            self.keeper.tick()
            self.shelter.tick()
            self._look_for_losses()
            if self.decoys is not None:
                self._tick_decoys(self.decoys)
            if self.queue.reader.failures != self._failures:
                self._failures = self.queue.reader.failures
                log.error(
                    "%d packets accepted unjudged, or verdicts sent again, last because of %r",
                    self._failures, self.queue.reader.last_failure,
                )  # fmt: skip

    def _tell_flood(self) -> None:
        """Flood mode is entered between two ticks, and a short flood is left again by the next."""
        floods = self.engine.counters["floods"]
        if floods != self._floods:
            self._floods, self._told_flood = floods, True
            self.recorder.note("flood", on=True)
            log.warning("flood mode on: a single forgeable packet no longer blocks")
        if self._told_flood and not self.engine.flood:
            self._told_flood = False
            self.recorder.note("flood", on=False)
            log.warning("flood mode off")

    def _look_for_losses(self) -> None:
        """What was dropped because something was full; and food for the watchdog, if verdicts are
        given: nothing waits in the queue, or some came out of it since the last look."""
        before = self.queue.reader.received
        queued = self._queued()
        self.queue.reader.receive()
        numbered = self.queue.reader.received + self.queue.reader.skipped
        if self.queue.reader.is_drained:
            self._queue_loss.look(queued, numbered)
        if self.queue.reader.is_drained or self.queue.reader.received > before:
            notify("WATCHDOG=1")
        losses = {
            "queue full": self._queue_loss.lost,
            "socket buffer full": self.queue.reader.skipped,
            "source table full": self.engine.tracker.turned_away,
            "block set full": self.engine.counters["block set full"],
        }
        self.overload.look(losses, clock())

    def _queued(self) -> int | None:
        try:
            counter = self.table.counter("queued")
        except SentryError:  # the table is being healed
            return None
        return counter.packets if counter else None

    def _overloaded(self, event: str, **fields: object) -> None:
        self.recorder.note(event, **fields)
        log.warning("%s: %s", event, ", ".join(f"{key} {value}" for key, value in fields.items()))

    def answer(self, request: Answer) -> Reply:
        """A request of the control socket."""
        match request.get("do"):
            case "status":
                return self.status()
            case (
                "list" | "kernel" | "explain" | "watch" | "sources" | "metrics" | "config"
                | "reload"
            ):  # fmt: skip
                return self._told(request)
            case "release":
                source = _source_in(request)
                self.engine.release(source)
                self.responder.ended(source_text(source))
                return {}
            case "release-all":
                self.engine.release_all()
                self.keeper.forget_all()
                self.responder.ended(None)
                return {}
            case "blocked":
                timeout = request.get("timeout")
                if not isinstance(timeout, int | float):
                    raise SentryError("a block has a timeout in seconds")
                self.responder.began(source_text(_source_in(request)), float(timeout))
                return {}
            case "reconcile":
                self.keeper.reconcile()
                return {}
            case "protect":
                self.shelter.look_again()
                return {}
            case "stop":
                self._stopped.set()
                return {}
            case other:
                raise SentryError(f"unknown request {other!r}")

    def _told(self, request: Answer) -> Stream:
        """What is looked up beside the packet path, in the socket's thread."""
        match request["do"]:
            case "list":
                return self._list()
            case "kernel":
                return self._kernel()
            case "metrics":
                return self._one(lambda: {"text": self._figures()})
            case "config":
                return self._one(lambda: {"config": self.config.model_dump(mode="json")})
            case "reload":
                loop = asyncio.get_running_loop()
                return self._one(lambda: {"changed": self._reload_in(loop)})
            case "watch":
                return self._watch()
            case "sources":
                return self._sources(request)
            case _:
                return self._explain(str(request.get("address")))

    def _one(self, make: Callable[[], Answer]) -> Stream:
        yield make()

    def _list(self) -> Stream:
        warnings: list[str] = []
        with closing(Table()) as table:  # one of its own: this runs in the socket's thread
            yield from listing.items(table, self.config.paths.ledger, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _explain(self, address: str) -> Stream:
        from sentryfw import explain  # noqa: PLC0415 - memory that is needed when somebody asks

        warnings: list[str] = []
        with closing(Table()) as table:
            yield from explain.parts(self.config, table, address, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _watch(self) -> Stream:
        from sentryfw import watching  # noqa: PLC0415 - likewise

        warnings: list[str] = []
        with closing(Table()) as table:
            yield from watching.parts(table, self.config.paths.ledger, warnings.append)
        yield from ({"warning": text} for text in warnings)

    def _sources(self, request: Answer) -> Stream:
        """Near the trigger: what is held is copied here, and weighed in the socket's thread."""
        from sentryfw import nearest  # noqa: PLC0415 - likewise

        top = nearest.wanted(request.get("top", nearest.DEFAULT_TOP))
        seen = nearest.snapshot(self.engine.tracker, clock())
        return (item for item in nearest.items(seen, top))

    def _kernel(self) -> Stream:
        with closing(Table()) as table:
            yield listing.kernel_state(table)

    def status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "compiled": compiled.is_used(),
            "divert": self.divert,
            "tracked_sources": len(self.engine.tracker),
            "flood": self.engine.flood,
            "engine": dict(self.engine.counters),
            "queue": {
                "number": self.config.queue.number,
                "max_len": self.config.queue.max_len,
                "overruns": self.queue.reader.overruns,
                "failures": self.queue.reader.failures,
            },
            "overload": self.overload.totals,
            "lost_records": self.recorder.lost + self.ledger.lost,
            "unkept_probes": self.recorder.unkept,
            "faults": self.faults(),
            **self.keeper.status(),
            "never_block": self.shelter.status(),
            "reactions": self.responder.status(),
            "decoys": self.decoys.status() if self.decoys is not None else None,
            "metrics": self._exporter.status() if self._exporter is not None else None,
            "reload": self.reloaded._asdict(),
        }

    def faults(self) -> dict[str, str]:
        """What is wrong with the disk, by what it is wrong for."""
        found = {"ledger": self.ledger.fault, "events": self.events.fault}
        if self.ledger.moved_aside:
            found["ledger moved aside"] = ", ".join(self.ledger.moved_aside)
        return {name: fault for name, fault in found.items() if fault}

    def protect(self, networks: list[IPNetwork]) -> None:
        """These are never blocked from now on, and no others."""
        self.engine.protect(tuple(networks))
        self.responder.protect(networks)

    def _released(self, source: Source) -> None:
        """Somebody deleted the element: the block is over."""
        self.engine.release(source)
        self.responder.ended(source_text(source))

    def _restore(self) -> None:
        now = clock()
        ends = [end for _, (_, end) in self.keeper.memory.ends.items()]
        self.engine.decider.caps.restore(ends)
        if len(ends) > self.config.block.max_elements:
            log.warning(
                "%d blocks are alive, more than [block] max_elements = %d: no more are made until"
                " enough have ended", len(ends), self.config.block.max_elements,
            )  # fmt: skip
        if self.responder.is_needed:
            self.responder.restore(self.alive())
        epoch = time.time() - now
        for sight in self.ledger.sights(time.time() - self.config.detect.slow_window):
            if sight.at <= time.time():  # not from a future that the clock has left
                self.engine.tracker.restore(probe_of(sight), sight.at - epoch)
        self.engine.decider.restore_offences(
            {
                parse_source(address): count
                for address, count in self.ledger.offences(MAX_OFFENDERS).items()
            }
        )


def open_evidence(settings: Config) -> Evidence | None:
    """Where packets are kept; None where none are wanted, or the disk has no place for them."""
    wanted = settings.evidence
    if not wanted.packets:
        return None
    try:
        return Evidence(settings.paths.evidence, wanted.max_files, wanted.max_age)
    except (OSError, SentryError) as error:
        log.error("no packets are kept: %s", error)
        return None


def _install(settings: Config, never_block: list[Protected]) -> Divert:
    """In a child: what it imports is not in our memory."""
    from sentryfw.netfilter.install import install  # noqa: PLC0415 - likewise

    return install(Table(), settings, never_block).plan.divert


def _source_in(request: Answer) -> Source:
    try:
        return parse_source(str(request.get("address")))
    except ValueError as error:
        raise SentryError(str(error)) from None


def _take_lock(path: Path) -> int:
    """The daemon's lock, with our pid in it. SentryError if another daemon holds it."""
    private_directory(path.parent)
    descriptor = open_private(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        raise SentryError(f"another sentryfwd is running (pid {pid}): stop it first") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def notify(state: str) -> None:
    """sd_notify(3), where systemd listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)  # a manager that does not read must not hold the packets up
        try:
            sock.sendto(state.encode(), address.replace("@", "\0", 1))
        except OSError as error:
            log.warning("NOTIFY_SOCKET %s: %s", address, error)


def leave_helper(settings: Config, path: Path) -> None:
    """As root that is about to be another user: what needs root later is left to a child."""
    owner = account.owner_of(settings.paths.state) if os.geteuid() == 0 else None
    if owner is None or owner.uid == 0 or not settings.respond.needs_root:
        return
    from sentryfw.respond import helper  # noqa: PLC0415 - for those who want it

    helper.check_owner(path)
    helper.fork(settings.respond, settings.paths.helper, owner.uid)


def log_handler() -> logging.Handler:
    """For stderr, or for the journal that it leads to."""
    if os.environ.get("JOURNAL_STREAM"):
        from sentryfw.record import journal  # noqa: PLC0415 - where systemd is

        if journal.is_stderr(os.environ):
            return journal.JournalHandler()
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(name)s: %(levelname)s: %(message)s"))
    return handler


def serve(path: Path | None) -> None:
    """Run the daemon in the foreground until it is told to stop."""
    logging.basicConfig(handlers=[log_handler()], level=logging.INFO)
    privileges.require_net_admin()
    settings = config.load(path)
    leave_helper(settings, path or config.DEFAULT_PATH)
    privileges.become_owner(settings.paths)
    daemon = Daemon(settings, path)
    sys.setswitchinterval(SWITCH)
    asyncio.run(daemon.run())


def main() -> None:
    """Entry point sentryfwd."""
    parser = argparse.ArgumentParser(prog="sentryfwd", description="The SentryFW daemon.")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE")
    parser.add_argument("--version", action="version", version=f"sentryfwd {__version__}")
    arguments = parser.parse_args()
    named = os.environ.get("SENTRYFW_CONFIG")
    path = arguments.config or (Path(named) if named else None)
    path = path and path.absolute()
    try:
        serve(path)
    except SentryError as error:
        sys.stderr.write(plain(f"sentryfwd: {error}\n", keep="\n"))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
