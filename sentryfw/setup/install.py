"""The installation and its removal: the table, the files on disk, the service."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import sentryfw.config
from sentryfw.config.files import DIRECTORY, drop_ins
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError
from sentryfw.guard.learnt_sets import record_unblock
from sentryfw.host import inhibit, last_good, privileges
from sentryfw.host.account import acting_as_owner, owner_of
from sentryfw.host.protected import Protected, never_block, remembered, ssh_peers
from sentryfw.netfilter.install import Installed, install, plan, uninstall
from sentryfw.netfilter.lock import NAME as TABLE_LOCK
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.packet_queue import require_library
from sentryfw.netfilter.schema import OFF_TABLE
from sentryfw.netfilter.table import Table
from sentryfw.record.active_blocks import active_blocks
from sentryfw.record.event_file import rotated
from sentryfw.record.ledger import PROTECTED_S, Ledger
from sentryfw.respond.undo import undo_all, undo_unwanted
from sentryfw.setup import service as systemd
from sentryfw.setup.preview import sentences
from sentryfw.setup.process import end

Say = Callable[[str], None]

MAX_NAMED: Final = 5
"""Lines and routes of reactions that are named one by one."""


class Preview(NamedTuple):
    """An install that was not carried out."""

    script: str
    """The nft script that it would load."""
    sentences: list[str]
    """Everything else that it would do."""


def preview(config: Config, table: Table, config_path: Path | None, *, service: bool) -> Preview:
    """Return what install would do, and change nothing."""
    protected = never_block(config)
    planned = plan(table, config, protected)
    found = sentences(config, planned, protected, config_path, with_service=service)
    return Preview(planned.script, found)


def run_install(
    config: Config, table: Table, config_path: Path | None, say: Say, *, service: bool,
    trial: bool = False,
) -> Installed:  # fmt: skip
    """Install or update, and report the never-block sources and the changes. `trial` keeps the mark
    of a trial; without it an earlier trial is over."""
    privileges.require_root()
    require_library()  # without it there would be a table, and no daemon that judges
    if service:
        systemd.prepare(config, config_path, say)
    protected = _never_block(config, say)
    lock = TableLock(config.paths.runtime)
    with lock.held():
        if table.is_switched_off():
            _switch_on(config, table, say)
        clear(config)
        if not trial:
            inhibit.end_trial(config.paths.state)
        lock.write("installing")
        installed = install(table, config, protected)
        lock.write("installed")
    planned = installed.plan
    _say_removed(undo_unwanted(config_path, config.respond), say)
    verb = "updated" if planned.update else "installed"
    say(f"{verb} table inet sentryfw; divert: {planned.divert}; blocks kept: {installed.kept}")
    if not planned.update:
        _say_restored(config, say)
    if service:
        systemd.install(config, config_path, say)
    return installed


def _switch_on(config: Config, table: Table, say: Say) -> None:
    """Undo that an operator switched SentryFW off with nft(8). The blocks of before are over."""
    uninstall(table)
    with Ledger(config.paths.ledger) as ledger:
        record_unblock(ledger, None, time.time())
    table.switch_on()
    say(f"switched on again: deleted table inet {OFF_TABLE}; the blocks of before are over")


def clear(config: Config) -> None:
    """End a panic: daemons may start again."""
    inhibit.clear(config.paths.state, config.paths.runtime)


def _say_restored(config: Config, say: Say) -> None:
    """Report the blocks in the ledger that a new table does not have yet."""
    with Ledger(config.paths.ledger) as ledger:
        count = sum(1 for _ in active_blocks(ledger, time.time()))
    if count:
        say(f"blocks of before that the daemon restores when it starts: {count}")


def run_uninstall(
    config: Config, table: Table, config_path: Path | None, say: Say, *, purge: bool
) -> None:
    """Remove SentryFW from the kernel, and with `purge` from the disk. A configuration that `-c`
    names belongs to the operator, and stays."""
    privileges.require_root()
    done: list[str] = []

    def say_done(text: str) -> None:
        done.append(text)
        say(text)

    systemd.remove(say_done)
    if end(config.paths.lock, config.paths.control):  # it would repair the table
        say_done("stopped the daemon")
    _say_removed(undo_all(config_path, config.respond), say_done)
    runtime = config.paths.runtime
    is_new = not runtime.exists()  # then it holds nothing but our lock
    lock = TableLock(runtime)
    with lock.held(goes_on=True):
        lock.write("uninstalled")
        removed = uninstall(table)
        table.switch_on()
    if removed:
        say_done("removed table inet sentryfw")
    if purge:
        purged = _purge(config, config_path)
        _say_purged(
            [path for path in purged if not (is_new and path.is_relative_to(runtime))], say_done
        )
    if not done:
        say("nothing was installed: there is no table inet sentryfw, no service, and no daemon")


def _say_removed(texts: list[str], say: Say) -> None:
    """Report what reactions had left, one line each while they are few."""
    for text in texts[:MAX_NAMED]:
        say(f"removed {text}")
    if len(texts) > MAX_NAMED:
        say(f"removed {len(texts) - MAX_NAMED} more lines and routes")


def _say_purged(paths: list[Path], say: Say) -> None:
    """Report the deleted files by their directories."""
    counts = Counter(path.parent for path in paths)
    for directory, count in sorted(counts.items()):
        files = "1 file or directory" if count == 1 else f"{count} files or directories"
        say(f"removed {files} from {directory}")


def _never_block(config: Config, say: Say) -> list[Protected]:
    """Return the never-block sources. SSH peers are recorded in the ledger for the daemon."""
    with Ledger(config.paths.ledger) as ledger:
        if config.never_block.ssh_peers:
            days = int(PROTECTED_S / 86400)
            for address in ssh_peers():
                ledger.protect(str(address), "ssh peer", time.time())
                say(f"{address} is never blocked for {days} days: an SSH session comes from there")
        return never_block(config, remembered(ledger.protected()))


def _purge(config: Config, config_path: Path | None) -> list[Path]:
    """Delete our files, and the directories that are empty then. Return their paths."""
    paths = config.paths
    ledger = paths.ledger
    default = sentryfw.config.DEFAULT_PATH
    files = [
        ledger, Path(f"{ledger}-wal"), Path(f"{ledger}-shm"),
        paths.events, *rotated(paths.events).values(),
        paths.lock, paths.control, paths.helper, paths.runtime / TABLE_LOCK,
        paths.state / inhibit.PANIC, paths.runtime / inhibit.PANIC, paths.state / inhibit.TRIAL,
        paths.allowlist, paths.allowlist.with_name(f"{paths.allowlist.name}.new"),
        *_named(paths.evidence, "*.pcapng*"), *_named(paths.state, f"{ledger.name}.corrupt-*"),
    ]  # fmt: skip
    if config_path is None:
        files += (default, default.with_name(f"{default.name}~"), *_drop_ins(default))
    if config.respond.history.format != "off":
        files.append(config.respond.history.path)
    etc = default.parent
    directories = (paths.evidence, paths.state, paths.runtime, paths.log, etc / DIRECTORY, etc)
    removed = [path for path in files if _unlink(path)]
    removed += last_good.delete(config_path)
    return [*removed, *(path for path in directories if _remove_empty(path))]


def _drop_ins(path: Path) -> list[Path]:
    """Return the files of conf.d; none if conf.d is not a directory."""
    try:
        return drop_ins(path)
    except ConfigError:
        return []


def _named(directory: Path, pattern: str) -> list[Path]:
    with acting_as_owner(directory):
        return [] if directory.is_symlink() else sorted(directory.glob(pattern))


def _unlink(path: Path) -> bool:
    """Delete a file as the owner of its directory. Links that lead elsewhere stay."""
    with acting_as_owner(path.parent), contextlib.suppress(PermissionError):
        if path.exists() and not path.is_symlink() and not path.is_dir():
            path.unlink()
            return True
    return False


def _remove_empty(directory: Path) -> bool:
    """Remove an empty directory, or a link in its place, as the owner of the directory above."""
    with acting_as_owner(directory.parent), contextlib.suppress(PermissionError):
        if directory.is_symlink():
            if owner_of(directory.parent) is None:
                return False  # an administrator's
            directory.unlink()
            return True
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
            return True
    return False
