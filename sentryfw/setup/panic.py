"""panic: the removal of every effect at once, even if much is broken.

It needs neither a valid configuration, nor a ledger, nor libnftables, nor a daemon that answers:
one netlink message deletes the table, and a signal ends the daemon.
"""

import contextlib
import errno
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sentryfw.config
from sentryfw.config.model import Paths
from sentryfw.errors import KernelError, SentryError
from sentryfw.guard.learnt_sets import record_unblock
from sentryfw.host import inhibit
from sentryfw.host.lock_holder import is_held, signal_holder
from sentryfw.netfilter.schema import COMMENT_PREFIX, TABLE
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import attributes
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.query.named_paths import named_paths
from sentryfw.query.working_config import stored_config
from sentryfw.record.ledger import Ledger
from sentryfw.setup import service
from sentryfw.setup.process import POLL_S
from sentryfw.setup.unit_files import UNIT

STOP_TIMEOUT_S: Final = 2.0
"""Seconds for systemctl, and for the end of a killed daemon."""

Say = Callable[[str], None]


def panic(path: Path | None, say: Say) -> None:
    """Remove every effect. A step that fails does not prevent the later ones, except that of the
    table, which needs root."""
    places = _places(path)
    inhibit.declare_panic(where for paths in places for where in (paths.runtime, paths.state))
    if service.SYSTEMD.is_dir():
        _stop_unit(say)
    for paths in places:
        _kill(paths.lock, say)
    _delete_table(say)
    _undo_reactions(path, say)
    for paths in places:
        _end_blocks(paths.ledger, say)
    say("no daemon starts until `sentryfw install`")


def _places(path: Path | None) -> list[Paths]:
    """Return the paths by the configuration, by the last good one, by the words of a broken one,
    and the default paths."""
    named = named_paths(path or sentryfw.config.DEFAULT_PATH)
    return list(dict.fromkeys([stored_config(path).paths, named, Paths()]))


def _stop_unit(say: Say) -> None:
    """Request the stop of the unit without waiting, so that systemd does not restart it."""
    command = ["systemctl", "stop", "--no-block", UNIT]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, check=False, timeout=STOP_TIMEOUT_S)
        if not done.returncode:
            say(f"requested the stop of {UNIT}")


def _kill(lock: Path, say: Say) -> None:
    if not is_held(lock):
        return
    pid = signal_holder(lock, signal.SIGKILL)
    if pid is None:
        say(f"{lock} is held by a process that is not the daemon's: it was not killed")
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_held(lock) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if is_held(lock):
        say(f"the daemon (pid {pid}) DID NOT EXIT after SIGKILL")
    else:
        say(f"killed the daemon (pid {pid})")


def _delete_table(say: Say) -> None:
    name = nl.text(nl.NFTA_TABLE_NAME, TABLE)
    with NfnetlinkSocket() as netlink:
        try:
            [reply] = netlink.request(nl.NFT_MSG_GETTABLE, name, f"table inet {TABLE}")
            userdata = attributes(reply.body[4:]).get(nl.NFTA_TABLE_USERDATA, b"")
            if not (nl.comment_of(userdata) or "").startswith(COMMENT_PREFIX):
                say(f"table inet {TABLE} was not made by SentryFW: it is not changed")
                return
            netlink.transact([(nl.NFT_MSG_DELTABLE, 0, name)], f"delete table inet {TABLE}")
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
            say(f"table inet {TABLE} did not exist")
        else:
            say(f"deleted table inet {TABLE}")


def _undo_reactions(path: Path | None, say: Say) -> None:
    """Withdraw the lines and routes of reactions, wherever they are."""
    from sentryfw.respond.undo import undo_all  # noqa: PLC0415 - if it cannot load, the table is gone

    try:
        for what in undo_all(path, stored_config(path).respond):
            say(f"removed {what}")
    except (SentryError, OSError) as error:
        say(f"cannot withdraw reactions: {error}")


def _end_blocks(ledger: Path, say: Say) -> None:
    """End the blocks in the ledger, so that the next install does not restore them."""
    if not ledger.exists():
        return
    try:
        with Ledger(ledger) as opened:
            record_unblock(opened, None, time.time())
    except (SentryError, OSError) as error:
        say(f"cannot end the blocks in the ledger ({error}): the next install may restore them")
