"""Reload: another configuration, all of it or none of it, while packets are judged.

Everything that can fail is done first: the files are read and checked, what is new is opened,
the table is made by the install path, in one transaction, with its blocks. What follows on that
is assignments in the loop, between two packets.
"""

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sentryfw import config
from sentryfw.config import Config
from sentryfw.config_files import flatten
from sentryfw.config_metrics import Metrics
from sentryfw.decoy.process import Decoys
from sentryfw.engine.engine import Engine
from sentryfw.errors import ConfigError, NotInstalled, SentryError
from sentryfw.keeper import Keeper
from sentryfw.lean import asyncio
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.installer import install_beside
from sentryfw.netfilter.table import IPNetwork
from sentryfw.record.evidence import Evidence, Glimpses
from sentryfw.record.recorder import Recorder
from sentryfw.respond.responder import Responder
from sentryfw.shelter import Shelter, gather

RESTART: Final = "needs a restart (systemctl restart sentryfw)"
HELPER: Final = "is done by root's helper, which `sentryfw install` makes anew"
_FIXED: Final = {"paths": RESTART, "queue": RESTART}
_HELPERS: Final = {"respond.command": HELPER, "respond.hosts_deny": HELPER}
"""Beside those, for a daemon that is not root."""

T = TypeVar("T")


class Running(Protocol):
    """Of the daemon, what a reload changes."""

    config: Config
    divert: Divert
    engine: Engine
    keeper: Keeper
    shelter: Shelter
    recorder: Recorder
    responder: Responder
    decoys: Decoys | None
    glimpses: Glimpses

    def protect(self, networks: list[IPNetwork]) -> None: ...
    def make_responder(self, settings: Config, protected: list[Protected]) -> Responder: ...
    def make_evidence(self, settings: Config) -> Evidence | None: ...
    async def expose(self, wanted: Metrics) -> None: ...
    def watch_decoys(self, decoys: Decoys | None) -> None: ...
    def alive(self) -> dict[str, float]: ...


class Prepared(NamedTuple):
    """What is ready before the table is touched."""

    config: Config
    protected: list[Protected]


async def reload(daemon: Running, path: Path | None) -> list[str]:
    """Take the configuration as it is on disk; the keys that changed. ConfigError with every
    fault or SentryError, and then nothing has changed."""
    ready = await _off(lambda: prepare(daemon.config, path))
    changed = differing(daemon.config, ready.config)
    old = daemon.config
    await _swap_decoys(daemon, ready.config)
    try:
        if old.metrics != ready.config.metrics:
            await daemon.expose(ready.config.metrics)
        responder = None
        if old.respond != ready.config.respond or old.watch.mode != ready.config.watch.mode:
            responder = daemon.make_responder(ready.config, ready.protected)
        await _change_table(daemon, ready)
    except BaseException:
        if old.metrics != ready.config.metrics:
            await daemon.expose(old.metrics)
        await _swap_decoys(daemon, old, failed=ready.config)
        raise
    _swap(daemon, ready)
    if responder is not None:
        await _swap_responder(daemon, responder)
    return changed


def prepare(running: Config, path: Path | None) -> Prepared:
    """The configuration on disk, and whom it protects on this host. ConfigError where the files
    have a fault, or change what a running daemon cannot."""
    loaded = config.load_with_sources(path)
    faults = fixed(running, loaded.config, is_root=os.geteuid() == 0)
    if faults:
        sources = loaded.sources
        files = [sources.origin(key.split(".")) or sources.where for key in faults]
        raise ConfigError(sources.where, [f"{key} {why}" for key, why in faults.items()], files)
    try:
        return Prepared(loaded.config, gather(loaded.config)[0])
    except (OSError, sqlite3.Error) as error:
        raise SentryError(f"whom this host depends on cannot be told: {error}") from error


def fixed(running: Config, wanted: Config, *, is_root: bool) -> dict[str, str]:
    """The keys that differ and that a running daemon cannot change, each with why."""
    found = {}
    for name, why in (_FIXED if is_root else _FIXED | _HELPERS).items():
        ours: Any = running
        theirs: Any = wanted
        for part in name.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        for key in type(ours).model_fields:
            if getattr(ours, key) != getattr(theirs, key):
                found[f"{name}.{key}"] = why
    if bool(running.watch.inside) != bool(wanted.watch.inside):
        found["watch.inside"] = RESTART  # a bit of the packets' marks is ours then, or is not
    return found


def differing(running: Config, wanted: Config) -> list[str]:
    """The keys whose values differ, "detect.trigger"."""
    ours, theirs = (
        dict(flatten(settings.model_dump(mode="json"))) for settings in (running, wanted)
    )
    paths = dict.fromkeys([*ours, *theirs])
    return [".".join(path) for path in paths if ours.get(path) != theirs.get(path)]


async def _change_table(daemon: Running, ready: Prepared) -> None:
    """Only as far as it has to: rules that stay the same are left alone."""
    old, new = daemon.config, ready.config
    networks = [protected.network for protected in ready.protected]
    if (old.watch, old.decoy) != (new.watch, new.decoy):
        work = partial(install_beside, new, ready.protected)
        daemon.divert = await daemon.keeper.reinstall(work)
        return
    if set(networks) == {protected.network for protected in daemon.shelter.protected}:
        return
    if not await daemon.keeper.replace_never_block(networks, daemon.protect):
        raise NotInstalled("the table was uninstalled: `sentryfw install` makes it")


def _swap(daemon: Running, ready: Prepared) -> None:
    """Between two packets."""
    old, new = daemon.config, ready.config
    networks = [protected.network for protected in ready.protected]
    daemon.config = new
    daemon.engine.reconfigure(new.horizons(), new.policy(tuple(networks)))
    if daemon.engine.inside is not None:
        inside = new.inside_policy(tuple(networks))
        daemon.engine.inside.reconfigure(new.inside_horizons(), inside)
    daemon.protect(networks)
    daemon.keeper.adopt(new)
    daemon.shelter.adopt(new, ready.protected)
    if old.evidence != new.evidence:
        daemon.recorder.keep_in(evidence := daemon.make_evidence(new))
        daemon.glimpses = Glimpses(new.evidence.packets if evidence else 0)


async def _swap_responder(daemon: Running, new: Responder) -> None:
    """The old one takes back what is not wanted any more, and ends; decisions meanwhile wait in
    the new one."""
    old, daemon.responder = daemon.responder, new
    alive, respond = daemon.alive(), daemon.config.respond

    def change() -> None:
        old.withdraw(respond)
        old.stop()
        new.restore(alive)
        new.start()

    await _off(change)


async def _swap_decoys(daemon: Running, new: Config, failed: Config | None = None) -> None:
    """The port is one, so the old ones go first; where the new ones fail, they come back."""
    before = (failed or daemon.config).decoy
    if before == new.decoy:
        return
    old = daemon.decoys
    daemon.watch_decoys(None)
    if old is not None:
        await _off(old.close)
    try:
        made = await _off(lambda: Decoys(new.decoy)) if new.decoy.wanted else None
    except BaseException:
        if before.wanted and failed is None:
            daemon.watch_decoys(await _off(lambda: Decoys(before)))
        raise
    daemon.watch_decoys(made)


async def _off(work: Callable[[], T]) -> T:
    """Beside the loop that gives the verdicts."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
