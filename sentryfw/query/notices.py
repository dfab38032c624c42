"""Sentences about a panic, a trial, a switch, or a full table of flows, for the operator."""

import contextlib
import time

from sentryfw.config.model import Paths
from sentryfw.errors import SentryError
from sentryfw.host import inhibit
from sentryfw.netfilter.schema import OFF_TABLE, TABLE
from sentryfw.netfilter.table import SWITCHED_OFF, Table
from sentryfw.query import conntrack_room
from sentryfw.text import local_time

STILL_THERE = (
    f"table inet {OFF_TABLE} switches SentryFW off, but no daemon has removed table inet {TABLE},"
    f" which still blocks: nft delete table inet {TABLE}. `sentryfw install` switches it on again"
)


def notices(paths: Paths, table: Table) -> list[str]:
    """Return a sentence about each; as far as the caller may know of them."""
    full = conntrack_room.warning(conntrack_room.read())
    return [*control_notices(paths, table), *([full] if full else ())]


def control_notices(paths: Paths, table: Table) -> list[str]:
    """Return a sentence about a panic, a trial, and a switch."""
    found = []
    with contextlib.suppress(SentryError, OSError):  # without CAP_NET_ADMIN
        if table.is_switched_off():
            found.append(STILL_THERE if table.is_installed() else SWITCHED_OFF)
    panicked = inhibit.panic_at(paths.state, paths.runtime)
    if panicked is not None:
        found.append(
            f"`sentryfw panic` stopped everything on {local_time(panicked)}: no daemon starts until"
            " `sentryfw install`"
        )
    trial = inhibit.visible_trial(paths.state)
    if trial is not None:
        found.append(_about(trial))
    return found


def _about(trial: inhibit.Trial) -> str:
    if trial.left:
        end = "the install of before comes back" if trial.goes_back else "it is uninstalled"
        until = local_time(time.time() + trial.left)
        return f"on trial until {until}: then {end}, unless you run `sentryfw confirm`"
    if trial.goes_back:
        return (
            "a trial ended without `sentryfw confirm`: the last good configuration is in use until"
            " `sentryfw install`"
        )
    return "a trial ended without `sentryfw confirm`: no daemon starts until `sentryfw install`"
