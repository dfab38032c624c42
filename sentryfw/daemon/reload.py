"""Reload: take another configuration, all of it or none of it, while packets are judged.

All that can fail comes first: the files are read and checked, new parts are built, and the install
path makes the table in one transaction, with its blocks. What the daemon does with the result is
assignments in its loop, between two packets.

See docs/decisions.md: reload-order.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sentryfw.config import load_with_sources
from sentryfw.config.files import flatten
from sentryfw.config.model import Config
from sentryfw.daemon.metrics.service import MetricsService
from sentryfw.daemon.parts import (
    Parts,
    install_table,
    make_recent,
    make_responder,
    open_capture_store,
)
from sentryfw.distribution import service_command
from sentryfw.errors import ConfigError, NotInstalled, SentryError
from sentryfw.guard.never_block_update import collect_protected
from sentryfw.host.protected import ProtectedNetworks
from sentryfw.netfilter.features import Divert
from sentryfw.record.captures import CaptureStore, RecentProbes
from sentryfw.respond.responder import Responder

RESTART: Final = f"needs a restart ({service_command('restart')})"
HELPER: Final = "is done by root's helper, which has to start again: run `sentryfw install`"
_FIXED: Final = {"paths": RESTART, "queue": RESTART, "fleet": RESTART}
_HELPERS: Final = {"respond.command": HELPER, "respond.hosts_deny": HELPER}
"""Sections that a daemon other than root cannot change, with the reason."""

T = TypeVar("T")


class Prepared(NamedTuple):
    """A configuration that was read and checked, with the never-block sources of this host."""

    config: Config
    protected: ProtectedNetworks


class Captures(NamedTuple):
    """The new store and the new memory of captured packets."""

    store: CaptureStore | None
    recent: RecentProbes


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The new parts, ready to be used. Table, decoys and exporter have been changed already."""

    changed: list[str]
    """The keys that differ."""
    config: Config
    protected: ProtectedNetworks
    divert: Divert
    responder: Responder | None
    """None: the old one stays in use."""
    captures: Captures | None
    """None: the old ones stay in use."""


async def build(parts: Parts, metrics: MetricsService, path: Path | None) -> Reloaded:
    """Build what the configuration on disk needs.

    Raise ConfigError with every fault of the files, or SentryError; then nothing has changed.
    """
    old = parts.config
    ready = await off_loop(partial(prepare, old, path))
    new = ready.config
    async with AsyncExitStack() as undo:
        undo.push_async_callback(parts.decoys.replace, old.decoy)
        await parts.decoys.replace(new.decoy)
        if old.metrics != new.metrics:
            undo.push_async_callback(metrics.replace, old.metrics)
            await metrics.replace(new.metrics)
        responder = None
        if _reactions(old) != _reactions(new):
            responder = make_responder(new, parts.recorder, ready.protected.networks)
        divert = await _change_table(parts, ready)
        undo.pop_all()
    captures = None
    if old.evidence != new.evidence:
        store = open_capture_store(new)
        captures = Captures(store, make_recent(new, store))
    return Reloaded(
        changed=differing(old, new), config=new, protected=ready.protected, divert=divert,
        responder=responder, captures=captures,
    )  # fmt: skip


def prepare(running: Config, path: Path | None) -> Prepared:
    """Read the configuration on disk, and collect the never-block sources of this host.

    Raise ConfigError where the files have a fault, or change what a running daemon cannot.
    """
    loaded = load_with_sources(path)
    faults = fixed(running, loaded.config, is_root=os.geteuid() == 0)
    if faults:
        sources = loaded.sources
        files = [sources.origin(key.split(".")) or sources.where for key in faults]
        raise ConfigError(sources.where, [f"{key} {why}" for key, why in faults.items()], files)
    try:
        protected, _ = collect_protected(loaded.config)
    except (OSError, sqlite3.Error) as error:
        raise SentryError(f"cannot determine the never-block addresses: {error}") from error
    return Prepared(loaded.config, ProtectedNetworks.of(protected))


def fixed(running: Config, wanted: Config, *, is_root: bool) -> dict[str, str]:
    """Return the keys that differ and that a running daemon cannot change, each with the reason."""
    found = {}
    for name, why in (_FIXED if is_root else _FIXED | _HELPERS).items():
        ours: Any = running
        theirs: Any = wanted
        for part in name.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        for key in type(ours).model_fields:
            if getattr(ours, key) != getattr(theirs, key):
                found[f"{name}.{key}"] = why
    return found


def differing(running: Config, wanted: Config) -> list[str]:
    """Return the keys whose values differ, such as "detect.trigger"."""
    ours, theirs = (dict(flatten(one.model_dump(mode="json"))) for one in (running, wanted))
    paths = dict.fromkeys([*ours, *theirs])
    return [".".join(path) for path in paths if ours.get(path) != theirs.get(path)]


async def off_loop(work: Callable[[], T]) -> T:
    """Run `work` in a thread: the loop continues to give verdicts."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _shape(config: Config) -> tuple[object, ...]:
    """Return what decides which chains, rules and static elements the table has."""
    block = config.block
    zones = config.named_zones()
    passed = config.accepting() if config.drops_while_away else ()
    return config.watch, zones, passed, config.decoy, block.unlisted, config.drops_while_away


async def _change_table(parts: Parts, ready: Prepared) -> Divert:
    """Change the table only as far as the configurations differ."""
    old, new = parts.config, ready.config
    if _shape(old) != _shape(new):
        return await parts.guard.reinstall(partial(install_table, new, ready.protected.networks))
    if ready.protected.networks == parts.engine.decider.policy.never_block:
        return parts.divert
    if not await parts.guard.replace_never_block(
        ready.protected.networks, parts.packet_path.protect
    ):
        raise NotInstalled("the table was uninstalled: run `sentryfw install`")
    return parts.divert


def _reactions(config: Config) -> tuple[object, ...]:
    """Return what the reactions are made of."""
    return config.respond, config.geo, config.labels, config.watch.mode
