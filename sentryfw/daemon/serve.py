"""Run the daemon: log, privileges, lock, process settings, and its loop."""

import asyncio
import ctypes
import fcntl
import gc
import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.daemon.daemon import Daemon, build
from sentryfw.errors import SentryError
from sentryfw.host import account, inhibit, last_good, privileges
from sentryfw.host.private_files import open_lock, private_directory
from sentryfw.netfilter.table import Table
from sentryfw.text import PlainFormatter

log: Final = logging.getLogger("sentryfwd")

SWITCH_INTERVAL_S: Final = 0.0001
"""Seconds after which another thread hands Python's lock to the loop that gives the verdicts.
Python's own value is 5 ms. See docs/decisions.md: separate-core."""
GC_THRESHOLDS: Final = (2_000, 100, 20)
"""Allocations between two collections of new objects, and those between two of older ones. Judging
a packet makes objects and no cycle; with Python's own values (700, 10, 10) a seventh of the time of
a flood's packet was spent in collections. One of 10,000 new objects takes 2.6 ms, of 2,000 0.6, and
no verdict is given in it."""
LOCK_TIMEOUT_S: Final = 0.2
LOCK_POLL_S: Final = 0.01


def freeze_memory() -> None:
    """Exempt the objects made so far from garbage collection, and collect less often from now on.

    They live as long as the daemon."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _return_free_memory()


def _return_free_memory() -> None:
    """Return to the kernel what the start needed and has freed: a MiB (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl's allocator has no such call
        trim(0)


def fork_helper(config: Config, path: Path) -> None:
    """Fork the child that keeps root for reactions, if root is about to become another user."""
    owner = account.owner_of(config.paths.state) if os.geteuid() == 0 else None
    if owner is None or owner.uid == 0 or not config.respond.needs_root:
        return
    from sentryfw.respond import helper  # noqa: PLC0415 - only where reactions need root

    helper.check_owner(path)
    helper.fork(config.respond, config.paths.helper, owner.uid)


def log_handler() -> logging.Handler:
    """Return a handler for stderr, or for the journal where stderr leads to it."""
    if os.environ.get("JOURNAL_STREAM"):
        from sentryfw.record import journal  # noqa: PLC0415 - only under systemd

        if journal.is_stderr(os.environ):
            return journal.JournalHandler()
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(name)s: %(levelname)s: %(message)s"))
    return handler


def take_lock(path: Path) -> None:
    """Lock the daemon's lock file until the process ends, and write our pid into it.

    Raise SentryError if another daemon holds it.
    """
    private_directory(path.parent)
    descriptor = open_lock(path)
    end = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:  # a command that asks for the holder is done at once
                pid = os.read(descriptor, 32).decode(errors="replace").strip()
                raise SentryError(
                    f"another sentryfwd is running (pid {pid}): stop it first"
                ) from None
            time.sleep(LOCK_POLL_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def may_start(loaded: Config, path: Path | None) -> Config:
    """Return the configuration to start with: the last good one after a trial that goes back to it.
    Raise NotInstalled if the daemon must not start."""
    with closing(Table()) as table:
        table.require_on()
    paths = loaded.paths
    good = last_good.load(path) if inhibit.goes_back(paths.state) else None
    inhibit.check(paths.state, paths.runtime, goes_back=good is not None)
    if good is not None:
        log.warning("the trial was not confirmed: the last good configuration is in use")
    return good or loaded


def _built(loaded: Config, path: Path | None) -> Daemon:
    """Build the daemon without garbage collections, which take a fifth of a restore's time and find
    little: it makes millions of objects, and few of them in cycles."""
    gc.disable()
    try:
        return build(loaded, path)
    finally:
        gc.enable()


def serve(path: Path | None) -> None:
    """Run the daemon in the foreground until SIGTERM, SIGINT or a stop request."""
    logging.basicConfig(handlers=[log_handler()], level=logging.INFO)
    privileges.require_net_admin()
    loaded = config.load(path)
    fork_helper(loaded, path or config.DEFAULT_PATH)
    privileges.become_owner(loaded.paths)
    loaded = may_start(loaded, path)
    take_lock(loaded.paths.lock)
    daemon = _built(loaded, path)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(daemon.run(before_ready=freeze_memory))
