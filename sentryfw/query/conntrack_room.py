"""The room that is left in connection tracking: for `status`, `list` and `doctor`.

The daemon, whose sandbox hides these files, asks by netlink (daemon/flow_loss.py).
"""

from pathlib import Path
from typing import Final

from sentryfw.netlink.conntrack import Flows

SYSCTL: Final = Path("/proc/sys/net/netfilter")
NEAR_SHARE: Final = 0.9
"""Share of the limit from which on an operator is warned."""


def read() -> Flows | None:
    """Return the flows of this network namespace; None if the kernel tracks none."""
    try:
        count, limit = (
            int((SYSCTL / name).read_text()) for name in ("nf_conntrack_count", "nf_conntrack_max")
        )
    except (OSError, ValueError):
        return None
    return Flows(count, limit)


def warning(flows: Flows | None) -> str | None:
    """Return a sentence if connection tracking is full, or nearly so."""
    if flows is None or not flows.limit or flows.tracked < flows.limit * NEAR_SHARE:
        return None
    state = "is full" if flows.tracked >= flows.limit else "is nearly full"
    return (
        f"connection tracking {state}, {flows.tracked} of {flows.limit} flows; when it is, the"
        " kernel drops every new client, blocked or not: raise net.netfilter.nf_conntrack_max"
    )
