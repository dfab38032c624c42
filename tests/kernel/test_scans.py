"""Every scan of the real nmap is recognised and blocked one-way."""

from typing import Final

import pytest

from support.lab import ATTACKER, LISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap]

SCANS: Final = {
    "-sS": "syn",
    "-sT": "syn",
    "-sF": "fin",
    "-sN": "null",
    "-sX": "xmas",
    "-sM": "maimon",
    "-sA": "ack",
    "-sU": "udp",
}
OUR_PORT: Final = 4000
"""Ports where the attacker's host listens, for connections of the victim."""


def _scan(lab: Lab, option: str, family: int) -> None:
    """Start nmap, until its source is blocked; what it would still find is not awaited."""
    command = ["nmap", "-n", "-Pn", "--max-retries", "1", option, "-p", "7001-7010"]
    if family == 6:
        command += ["-6", "-S", ATTACKER[6], "-e", "veth0"]
    nmap = lab.attacker.popen([*command, VICTIM[family]])
    try:
        wait_for(lambda: lab.is_blocked(ATTACKER[family]), f"nmap {option} is blocked", 20)
    finally:
        nmap.kill()
        output = "\n".join(nmap.communicate())
    assert "QUITTING" not in output, output


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("option", SCANS)
def test_a_scan_of_nmap_is_recognised_and_blocked_one_way(
    lab: Lab, daemon: Sentry, option: str, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.listen(OUR_PORT, family, lab.attacker)
    _scan(lab, option, family)
    event = daemon.alert(ATTACKER[family])
    assert event["sentryfw"]["kinds"] == [SCANS[option]]
    assert event["sentryfw"]["scan"] == "portscan"
    assert event["dest_ip"] == VICTIM[family]
    assert 7001 <= event["dest_port"] <= 7010
    assert not lab.answers(ATTACKER[family])
    lab.open_from_victim(ATTACKER[family], OUR_PORT)
