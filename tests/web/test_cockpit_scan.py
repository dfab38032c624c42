"""A real scan on the page in Cockpit, from its first probe to the capture that is saved."""

from pathlib import Path
from typing import Final

import pytest

from support.browser import Browser
from support.cockpit import Cockpit
from support.host import BIN
from support.lab import ATTACKER, UNLISTED, Lab, Sentry
from support.pages import PAGE, SOON_S, VIEWER
from support.waiting import wait_for

pytestmark = pytest.mark.web

SECTION: Final = b"\x0a\x0d\x0d\x0a"
"""The first block of a pcapng file."""


def test_a_scan_appears_is_explained_and_its_packets_are_saved(lab: Lab, tmp_path: Path) -> None:
    sentry = Sentry(lab)
    command = [BIN / "sentryfw", "-c", sentry.config]
    done = lab.victim.run(*command, "install", "--no-service")
    assert done.returncode == 0, done.stderr
    try:
        sentry.start()
        wait_for(lambda: _has_addresses(lab), "no address is tentative", SOON_S)
        with Cockpit(lab.victim, command, peer=VIEWER) as _, Browser(lab.victim) as page:
            page.open(PAGE)
            page.wait_text("#state", "Guarding")
            lab.probe(ATTACKER[4], *UNLISTED)
            row = page.wait_text("tbody tr", ATTACKER[4], SOON_S)
            assert "portscan" in row
            assert page.wait_text("[data-figure=blocked]", "1", SOON_S)
            page.press("Why", "tbody tr")
            page.wait_text("#view h2", "blocked", SOON_S)
            story = page.text("#view table")
            assert [port for port in UNLISTED if f"tcp/{port}" not in story] == []
            page.devtools(
                "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
            )
            page.press("Save the packets", "#view")
            wait_for(lambda: list(tmp_path.glob("*.pcapng")), "the file is there", SOON_S)
    finally:
        sentry.close()
    [saved] = tmp_path.glob("*.pcapng")
    assert saved.name == f"{ATTACKER[4]}.pcapng"
    assert saved.read_bytes().startswith(SECTION)


def _has_addresses(lab: Lab) -> bool:
    """Return whether duplicate address detection has ended: a browser gives up what it loads when
    the host gets another address (net::ERR_NETWORK_CHANGED)."""
    return not lab.victim.run("ip", "-6", "address", "show", "tentative").stdout
