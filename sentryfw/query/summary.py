"""The state of SentryFW in one word, and the reasons for it: for `status`, `watch` and pages."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final, TypedDict

from sentryfw.config.model import Config
from sentryfw.distribution import service_command
from sentryfw.errors import SentryError
from sentryfw.host import inhibit
from sentryfw.netfilter.table import SWITCHED_OFF, Table
from sentryfw.record.events import timestamp

GUARDING: Final = "guarding"
OBSERVING: Final = "observing"
OFF: Final = "off"
"""New scans are not found; blocks that are in the kernel last until they end."""


class Summary(TypedDict):
    """The state, and the dates that an operator must know. Times are ISO 8601, in UTC."""

    state: str
    """"guarding", "observing" or "off"."""
    because: list[str]
    """The reasons why it is not "guarding", the first one first."""
    trial_ends_at: str | None
    """The end of an install on trial."""
    panic_at: str | None
    """The time of `sentryfw panic`, until the next install."""


def summary(config: Config, table: Table, daemon: Mapping[str, Any], divert: str | None) -> Summary:
    """Return the state. `daemon`: its status, empty if it is not running; `divert`: the way into
    the queue."""
    paths = config.paths
    panicked = inhibit.panic_at(paths.state, paths.runtime)
    trial = inhibit.visible_trial(paths.state)
    reasons = [] if panicked is None else ["`sentryfw panic` stopped everything"]
    is_off, is_installed = _table_state(table, default=divert is not None)
    if is_off:
        reasons.append(SWITCHED_OFF)
    elif not is_installed:
        reasons.append("nothing is installed: run `sentryfw install`")
    elif divert is None:
        reasons.append("the table has no rule that queues packets: run `sentryfw install`")
    if not daemon:
        reasons.append(f"the daemon is not running: {service_command('start')}")
    if trial is not None and not trial.left and not daemon:
        reasons.append("a trial ended without `sentryfw confirm`")
    observing = daemon.get("mode", config.detect.mode) == "observe"
    state = OFF if reasons else OBSERVING if observing else GUARDING
    if not reasons and observing:
        reasons = ['mode = "observe": scans are reported, nothing is blocked']
    ends = trial.left if trial is not None else 0.0
    return {
        "state": state,
        "because": reasons,
        "trial_ends_at": timestamp(time.time() + ends) if ends else None,
        "panic_at": None if panicked is None else timestamp(panicked),
    }


def _table_state(table: Table, *, default: bool) -> tuple[bool, bool]:
    """Return whether the table is switched off, and whether it is installed. Without CAP_NET_ADMIN
    the answer of the daemon is the best that is known."""
    with contextlib.suppress(SentryError, OSError):
        return table.is_switched_off(), table.is_installed()
    return False, default
