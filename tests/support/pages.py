"""Values and functions that the tests of pages share."""

import time
from collections.abc import Callable
from typing import Any, Final

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, ProbeTrace
from support.box import Box
from support.browser import Browser
from support.cockpit import URL
from support.host import OWN

PAGE: Final = f"{URL}/cockpit/@localhost/sentryfw/index.html"
VIEWER: Final = "192.0.2.9"
"""The address that the session comes from."""
SCANNER: Final = "203.0.113.7"
HOSTILE: Final = (
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\u202egpj.exe'
)
SOON_S: Final = 15.0
"""Seconds for what a command has to do on a machine with other work."""


def remember(box: Box, address: str = SCANNER, **fields: Any) -> None:
    """Write the record of a scan that the engine blocked."""
    now = fields.get("blocked_at", time.time())
    kind = fields.get("kinds", ["syn"])[0]
    trace = tuple(ProbeTrace(now - 2, kind, False, f"{OWN} tcp/{port}") for port in (22, 23, 25))
    entry = DecisionRecord(
        address=address,
        family=4,
        scan="portscan",
        kinds=["syn"],
        targets=3,
        probes=3,
        first_seen=now - 2,
        blocked_at=now,
        timeout_s=3600,
        offence=1,
        forgeable=True,
        tool="masscan",
        reason="3 targets within 300 s",
        sample=[],
        blocked=True,
        trace=trace,
    )._replace(**fields)
    with Ledger(box.settings.paths.ledger) as ledger:
        ledger.add([entry])


def blocked(box: Box) -> set[str]:
    return set(box.elements("block4"))


Open = Callable[..., Browser]
"""Opens the page; see tests/web/conftest.py."""
