"""panic: every effect ends at once, whatever else is broken.

Needs neither a configuration that parses, nor a ledger, nor libnftables, nor a daemon that
answers: one netlink message deletes the table, a signal ends the daemon.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentryfw import config as configuration
from sentryfw import stops
from sentryfw.cli import service
from sentryfw.cli.running import POLL, holder
from sentryfw.config import Paths
from sentryfw.config_files import MAX_CONFIG_BYTES, drop_ins
from sentryfw.errors import KernelError, SentryError
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import OURS, TABLE
from sentryfw.record.ledger import Ledger

PATIENCE: Final = 2.0
_PLACE: Final = re.compile(r'^\s*(state|runtime)\s*=\s*["\'](/[^"\']*)["\']', re.MULTILINE)

Say = Callable[[str], None]


def panic(path: Path | None, say: Say) -> None:
    """Take everything away; each step whatever became of the others."""
    places = _places(path or configuration.DEFAULT_PATH)
    stops.declare_panic(where for paths in places for where in (paths.runtime, paths.state))
    if service.SYSTEMD.is_dir():
        _stop_unit(say)
    for paths in places:
        _kill(paths.lock, say)
    _delete_table(say)
    _undo_reactions(path, say)
    for paths in places:
        _end_blocks(paths.ledger, say)
    say("no daemon starts until `sentryfw install`")


def _places(path: Path) -> list[Paths]:
    """Where the files may be: by the configuration, broken as it may be, and by default."""
    found = [Paths()]
    try:
        found.insert(0, configuration.load(path).paths)
    except SentryError:
        named: dict[str, Path] = {}
        for file in _files(path):
            with contextlib.suppress(OSError, ValueError):
                text = file.read_bytes()[:MAX_CONFIG_BYTES].decode(errors="replace")
                named |= {name: Path(place) for name, place in _PLACE.findall(text)}
        with contextlib.suppress(ValueError):
            found.insert(0, Paths(**named))
    return list(dict.fromkeys(found))


def _files(path: Path) -> list[Path]:
    try:
        return [path, *drop_ins(path)]
    except SentryError:
        return [path]


def _stop_unit(say: Say) -> None:
    """So that systemd does not start it again; it is not waited for."""
    command = ["systemctl", "stop", "--no-block", service.UNIT]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
        if not done.returncode:
            say(f"{service.UNIT} is told to stop")


def _kill(lock: Path, say: Say) -> None:
    pid = holder(lock)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while holder(lock) is not None and time.monotonic() < deadline:
        time.sleep(POLL)
    say(f"the daemon (pid {pid}) {'is killed' if holder(lock) is None else 'DOES NOT DIE'}")


def _delete_table(say: Say) -> None:
    name = nl.text(nl.NFTA_TABLE_NAME, TABLE)
    with NfnetlinkSocket() as netlink:
        try:
            [reply] = netlink.request(nl.NFT_MSG_GETTABLE, name, f"table inet {TABLE}")
            userdata = nl.attributes(reply.body[4:]).get(nl.NFTA_TABLE_USERDATA, b"")
            if not (nl.comment_of(userdata) or "").startswith(OURS):
                say(f"table inet {TABLE} is not ours: left alone")
                return
            netlink.transact([(nl.NFT_MSG_DELTABLE, 0, name)], f"delete table inet {TABLE}")
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
            say("there was no table")
        else:
            say(f"table inet {TABLE} is deleted")


def _undo_reactions(path: Path | None, say: Say) -> None:
    """Lines and routes that reactions made; where they are, the configuration says."""
    from sentryfw.respond.undo import undo  # noqa: PLC0415 - panic needs it last, and may not

    try:
        for what in undo(configuration.load(path).respond, None):
            say(f"removed {what}")
    except (SentryError, OSError) as error:
        say(f"reactions are not looked at: {error}")


def _end_blocks(ledger: Path, say: Say) -> None:
    """What was blocked does not come back with the next install."""
    if not ledger.exists():
        return
    try:
        with Ledger(ledger) as opened:
            opened.unblocked(None, time.time())
    except (SentryError, OSError) as error:
        say(f"the ledger cannot be told ({error}): blocks in it may come back with install")
