"""sentryfwd: starts the parts, ticks them once a second, applies a reload, stops.

One thread judges packets: the loop's. It is ready only when table, queue and ledger are.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentryfw import __version__
from sentryfw.config.model import Config
from sentryfw.daemon import status
from sentryfw.daemon.metrics.service import MetricsService
from sentryfw.daemon.overload import FloodWatch, Loss, LossWatch
from sentryfw.daemon.packet_path import clock
from sentryfw.daemon.parts import (
    Parts,
    build_parts,
    restore_reactions,
    seconds_left,
    start_polls,
    use_limits,
)
from sentryfw.daemon.requests import Actions, control_server
from sentryfw.daemon.status import ReloadStatus, Status
from sentryfw.daemon.systemd import notify
from sentryfw.daemon.watches.early_limit import EarlyLimit
from sentryfw.errors import NotInstalled, SentryError
from sentryfw.netfilter.table import SWITCHED_OFF, Counter, Table
from sentryfw.respond.responder import Responder

if TYPE_CHECKING:
    from sentryfw.daemon.reload import Reloaded

log: Final = logging.getLogger("sentryfwd")
TICK_S: Final = 1.0


def build(config: Config, path: Path | None = None) -> "Daemon":
    """Build a daemon. `path`: the file that a reload reads; None: the default.

    Needs CAP_NET_ADMIN. Raise SentryError if a part cannot be created.
    """
    return Daemon(build_parts(config), path)


class Daemon:
    """Runs the parts in one event loop."""

    def __init__(self, parts: Parts, path: Path | None = None) -> None:
        self._parts = parts
        self._path = path
        self._started_at = time.time()
        self._lag_s = 0.0
        self._stopped = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reload = ReloadStatus(at=time.time(), error="")
        self._is_switched_off = False
        parts.guard.on_switched_off(self._switched_off)
        self._tasks: set[asyncio.Task[None]] = set()
        self._metrics = MetricsService(self._figures)
        self._losses = LossWatch(
            parts.table, parts.queue.reader, parts.engine, parts.recorder, TICK_S, self._full
        )
        self._floods = FloodWatch(parts.engine, parts.recorder, EarlyLimit(parts.table))
        actions = Actions(self.status, self._figures, self.reload, self._stopped.set)
        self._control = control_server(parts, actions)

    async def run(self, *, before_ready: Callable[[], None]) -> None:
        """Judge until SIGTERM, SIGINT or a stop request. `before_ready` is called last of all.

        Raise NotInstalled if an operator has switched SentryFW off.
        """
        parts = self._parts
        await self._start()
        ticker = asyncio.create_task(self._tick())
        before_ready()
        parts.recorder.note("start", version=__version__, divert=parts.divert)
        log.info("ready: divert %s, queue %d", parts.divert, parts.config.queue.number)
        notify("READY=1")
        try:
            await self._stopped.wait()
        finally:
            notify("STOPPING=1")
            ticker.cancel()
            self._stop()
        if self._is_switched_off:
            raise NotInstalled(SWITCHED_OFF)

    async def _start(self) -> None:
        loop, parts = asyncio.get_running_loop(), self._parts
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        parts.recorder.start()
        parts.responder.start()
        await self._control.start()
        loop.add_reader(parts.queue.fileno(), parts.queue.reader.receive)
        parts.decoys.start()
        try:
            await self._metrics.replace(parts.config.metrics)
        except SentryError as error:  # detection starts without metrics
            parts.recorder.note("metrics-failed", error=str(error))
            log.error("%s; there are no metrics until a reload", error)
        parts.guard.start()
        parts.never_block.start()
        self._losses.start()
        parts.confine.tick()
        start_polls(parts, self._control.submit)
        loop.run_in_executor(None, self._remove_leftovers)

    def _remove_leftovers(self) -> None:
        """Remove lines and routes of reactions that were switched off while no daemon ran."""
        from sentryfw.daemon.leftovers import remove_leftovers  # noqa: PLC0415 - done once

        try:
            remove_leftovers(self._parts.config, self._path)
        except (SentryError, OSError) as error:
            log.warning("lines or routes of reactions that are off may be left: %s", error)

    def _stop(self) -> None:
        """Close queue, sockets and threads. Blocks stay, and unlisted packets pass unjudged."""
        parts = self._parts
        asyncio.get_running_loop().remove_reader(parts.queue.fileno())
        parts.decoys.stop()
        self._control.stop()
        self._metrics.stop()
        parts.never_block.close()
        parts.relisting.close()
        parts.room.close()
        parts.listed_scans.close()
        parts.flow_loss.close()
        parts.guard.close()
        if parts.config.drops_while_away:  # stopped: the host decides again
            with suppress(SentryError):
                parts.table.decisions.drop_while_away(is_on=False)
        parts.queue.close()
        parts.decoys.close()
        parts.table.close()
        parts.responder.stop(ends=True)
        parts.recorder.note("stop")
        parts.recorder.stop()

    async def _tick(self) -> None:
        parts = self._parts
        while True:
            due = clock() + TICK_S
            await asyncio.sleep(TICK_S)
            self._lag_s = max(0.0, clock() - due)
            parts.engine.tick(clock())
            self._floods.tick()
            parts.confine.tick()
            parts.guard.tick()
            parts.never_block.tick()
            parts.relisting.tick()
            parts.room.tick()
            parts.packet_path.tick()
            parts.listed_scans.tick()
            parts.flow_loss.tick(parts.never_block.host_changes)
            if self._losses.tick():
                notify("WATCHDOG=1")
            parts.decoys.tick()
            parts.reports.tick(parts.config)
            if parts.fleet.repaired(int(parts.guard.status()["healed"]["count"])):
                asyncio.get_running_loop().run_in_executor(None, parts.fleet.refill)

    def _full(self) -> dict[Loss, int]:
        """Return the totals of what was lost beside the packet path, because it was full."""
        return {
            **self._parts.confine.full,
            Loss.CONTROL_PLACES: self._control.refused,
            Loss.LEDGER_ROWS: self._parts.ledger.trimmed,
        }

    # --- another configuration

    async def reload(self) -> list[str]:
        """Apply the configuration on disk, and return the keys that changed.

        Raise SentryError if it is refused; then the old one stays in effect.
        """
        from sentryfw.daemon import reload  # noqa: PLC0415 - memory that only a reload needs

        recorder = self._parts.recorder
        async with self._reloading:
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                new = await reload.build(self._parts, self._metrics, self._path)
                await self._apply(new)
            except SentryError as error:
                self._reload = ReloadStatus(at=self._reload.at, error=str(error))
                recorder.note("reload-refused", error=str(error))
                log.error("reload refused, the old configuration stays in effect: %s", error)
                raise
            finally:
                notify("READY=1")
            self._reload = ReloadStatus(at=time.time(), error="")
            recorder.note("reload", changed=new.changed)
            log.info("reloaded: %s", ", ".join(new.changed) or "nothing has changed")
            return new.changed

    async def _apply(self, new: "Reloaded") -> None:
        """Use the new parts: all at once between two packets, then the reactions."""
        parts, config, protected = self._parts, new.config, new.protected
        parts.config, parts.divert = config, new.divert
        parts.engine.zones.use(config.zones(protected.networks))
        parts.packet_path.follow_zones()
        parts.packet_path.protect(protected.networks)
        parts.guard.reconfigure(config)
        parts.fleet.reconfigure(config)
        parts.never_block.reconfigure(config, protected)
        use_limits(parts)
        if new.captures is not None:
            parts.recorder.use_captures(new.captures.store)
            parts.packet_path.recent = new.captures.recent
        if new.responder is not None:
            await self._replace_responder(new.responder)

    async def _replace_responder(self, new: Responder) -> None:
        """Start the new reactions after the old ones have removed lines and routes that the new
        configuration does not ask for. Decisions made during that time wait in the new ones."""
        parts = self._parts
        old, parts.packet_path.responder = parts.responder, new
        blocked, wanted = seconds_left(parts.guard), parts.config.respond

        def change() -> None:
            old.withdraw(wanted)
            old.stop()
            restore_reactions(parts.config, blocked, old, new)
            new.start()

        await asyncio.get_running_loop().run_in_executor(None, change)

    def _hang_up(self) -> None:
        """Reload on SIGHUP."""

        async def reload() -> None:
            with suppress(SentryError):  # reload() has logged it
                await self.reload()

        self._spawn(reload())

    def _switched_off(self) -> None:
        """End every effect, and stop."""
        self._is_switched_off = True
        self._spawn(self._end_everything())

    async def _end_everything(self) -> None:
        parts = self._parts
        log.warning(SWITCHED_OFF)
        parts.recorder.note("switched-off")
        try:
            parts.table.delete()
            parts.packet_path.unblocked(None)  # and its lines and routes
            await parts.guard.end_all()
        except (SentryError, OSError) as error:
            log.error("switched off, but not everything was removed: %s", error)
        self._stopped.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what it reports

    def status(self) -> Status:
        """Return the present state. Any thread may call it."""
        return status.collect(
            self._parts,
            self._losses.totals,
            self._metrics.status(),
            self._reload,
            self._started_at,
        )

    def _figures(self) -> str:
        """Return Prometheus' text. Called in a thread off the packet path."""
        from sentryfw.daemon.metrics import collect  # noqa: PLC0415 - memory of few

        parts = self._parts
        counters: dict[str, Counter] = {}
        confined: dict[int, int] = {}
        with suppress(SentryError), closing(Table()) as table:  # none during a repair
            counters = table.counters()
            confined = table.decisions.count_confined()
        return collect.text(
            collect.State(
                status=self.status(), config=parts.config, started=self._started_at,
                lag=self._lag_s, received=parts.queue.reader.received,
                blocked=parts.guard.memory.ends.alive(clock()),
                tally=dict(parts.recorder.tally), counters=counters,
                zones={zone.name: len(zone.tracker) for zone in parts.engine.zones.all},
                confined=confined,
            )
        )  # fmt: skip
