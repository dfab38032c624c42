"""install and uninstall: the table, the state on disk, the service."""

import time
from collections.abc import Callable
from pathlib import Path

from sentryfw import config as configuration
from sentryfw import privileges, stops
from sentryfw.cli import service as service_files
from sentryfw.cli.running import end
from sentryfw.config import Config
from sentryfw.config_files import DIRECTORY, drop_ins
from sentryfw.netfilter import host
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.install import Installed, install, plan, uninstall
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.tablelock import NAME as TABLE_LOCK
from sentryfw.netfilter.tablelock import TableLock
from sentryfw.record.ledger import Ledger
from sentryfw.respond.undo import undo

Say = Callable[[str], None]


def dry_run(config: Config, table: Table) -> str:
    """The script that install would load; nothing is changed."""
    return plan(table, config, host.never_block(config)).ruleset.script


def run_install(
    config: Config, table: Table, config_path: Path | None, say: Say, *, service: bool,
    trial: bool = False,
) -> Installed:  # fmt: skip
    """Install or update; says what is protected and what was done. Not on trial: for good."""
    privileges.require_root()
    protected = _protect(config, say)
    lock = TableLock(config.paths.runtime)
    with lock.held():
        clear(config)
        if not trial:
            stops.end_trial(config.paths.state)
        installed = install(table, config, protected)
        lock.write("installed")
    planned = installed.plan
    verb = "updated" if planned.update else "installed"
    say(f"{verb} table inet sentryfw; divert: {planned.divert}; live blocks kept: {installed.kept}")
    if service:
        service_files.install(config, config_path, say)
    return installed


def clear(config: Config) -> None:
    """A panic is over."""
    stops.clear(config.paths.state, config.paths.runtime)


def run_uninstall(
    config: Config, table: Table, config_path: Path | None, say: Say, *, purge: bool
) -> None:
    """Take everything of ours out of the kernel; with `purge` off the disk too. A configuration
    that was named by its path is the operator's, and stays."""
    privileges.require_root()
    service_files.remove(say)
    end(config.paths.lock, config.paths.control)  # it must not put the table back
    for what in undo(config.respond, None):
        say(f"removed {what}")
    lock = TableLock(config.paths.runtime)
    with lock.held():
        lock.write("uninstalled")
        removed = uninstall(table)
    say("removed table inet sentryfw" if removed else "there was no table to remove")
    if purge:
        for path in _purge(config, with_default=config_path is None):
            say(f"removed {path}")


def _protect(config: Config, say: Say) -> list[Protected]:
    """The never-block sources; SSH peers are remembered, so that the daemon spares them too."""
    with Ledger(config.paths.ledger) as ledger:
        if config.never_block.ssh_peers:
            for address in host.ssh_peers():
                ledger.protect(str(address), "ssh peer", time.time())
                say(f"{address} is never blocked: you are connected from there by SSH")
        return host.never_block(config, host.remembered(ledger.protected()))


def _purge(config: Config, *, with_default: bool) -> list[Path]:
    """Delete what we wrote; directories only where nothing else is left in them."""
    paths = config.paths
    ledger = paths.ledger
    files = [
        ledger, Path(f"{ledger}-wal"), Path(f"{ledger}-shm"),
        paths.events, paths.lock, paths.control, paths.helper, paths.runtime / TABLE_LOCK,
        paths.state / stops.PANIC, paths.runtime / stops.PANIC, paths.state / stops.TRIAL,
        paths.allowlist, paths.allowlist.with_name(f"{paths.allowlist.name}.new"),
        *paths.evidence.glob("*.pcapng"), *paths.state.glob(f"{ledger.name}.corrupt-*"),
    ]  # fmt: skip
    if with_default:
        files += (configuration.DEFAULT_PATH, *drop_ins(configuration.DEFAULT_PATH))
    if config.respond.history.format != "off":
        files.append(config.respond.history.path)
    removed = []
    for path in files:
        if path.exists() and not path.is_symlink():
            path.unlink()
            removed.append(path)
    etc = configuration.DEFAULT_PATH.parent
    parents = (paths.evidence, paths.state, paths.runtime, paths.log, etc / DIRECTORY, etc)
    for directory in parents:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
            removed.append(directory)
    return removed
