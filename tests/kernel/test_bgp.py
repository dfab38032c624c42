"""Proven sources, announced by bird to a router: the blackhole route comes and goes with the block.

The configurations of both are those of docs/neighbours.md.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("bird") is None, reason="needs bird2"),
]

StartDaemon = Callable[[str], Sentry]
PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "neighbours.md"
HERE, ROUTER = "192.0.2.1", "192.0.2.254"
DECOY: Final = 23
ANNOUNCED: Final = (
    f"[decoy]\ntcp = [{DECOY}]\n[detect]\ntriggers = {{ connect = 1 }}\n"
    "[respond.bgp]\nenabled = true\n"
)
SESSION_S: Final = 30.0
"""Bird waits five seconds before its first attempt."""


class Border:
    """The victim's bird, a router with another one, and a wire between them."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.router = lab, Namespace()
        connect(lab.victim, self.router, ("up0", "up0"))
        add_address(lab.victim, "up0", f"{HERE}/24")
        add_address(self.router, "up0", f"{ROUTER}/24")
        ours, its = re.findall(r"```bird\n(.*?)```", PAGE.read_text(), re.DOTALL)
        self._start(lab.victim, directory / "ours", ours)
        self._start(self.router, directory / "its", its)
        self._control = directory / "ours.ctl"
        wait_for(self._is_up, "a BGP session", SESSION_S)

    def _start(self, host: Namespace, path: Path, text: str) -> None:
        path.write_text(text)
        process = host.popen(["bird", "-f", "-c", path, "-s", path.with_suffix(".ctl")])
        assert process.poll() is None

    def _is_up(self) -> bool:
        done = self.lab.victim.run("birdc", "-s", self._control, "show", "protocols", "border")
        return "Established" in done.stdout

    def attributes(self) -> str:
        words = ("show", "route", "all", "table", "blocked4")
        return self.lab.victim.run("birdc", "-s", self._control, *words).stdout

    def blackholes(self) -> set[str]:
        """Return the blackhole routes in the router's kernel."""
        lines = "".join(self.router.ip(family, "route") for family in ("-4", "-6")).splitlines()
        return {line.split()[1] for line in lines if line.startswith("blackhole")}


@pytest.fixture
def border(lab: Lab, tmp_path: Path) -> Iterator[Border]:
    made = Border(lab, tmp_path)
    with made.router:
        yield made


def _become_proven(lab: Lab, daemon: Sentry, address: str) -> None:
    """Connect to a decoy, so that the source is blocked for proven evidence."""
    client = lab.start_opening(address)
    client.settimeout(5)
    client.connect((VICTIM[6 if ":" in address else 4], DECOY))
    daemon.alert(address)


def _cli(lab: Lab, daemon: Sentry, *words: str) -> None:
    command = [sys.executable, "-P", "-m", "sentryfw", "-c", daemon.config, *words]
    done = lab.victim.run(*command)
    assert done.returncode == 0, done.stderr


def test_a_proven_source_is_announced_and_others_are_not(
    lab: Lab, start_daemon: StartDaemon, border: Border
) -> None:
    daemon = start_daemon(ANNOUNCED)
    lab.probe(BYSTANDER[4], *UNLISTED)  # which can be forged
    daemon.alert(BYSTANDER[4])
    for family in (4, 6):
        _become_proven(lab, daemon, ATTACKER[family])
    expected = {ATTACKER[4], "2001:2:0:1::/64"}
    wait_for(lambda: border.blackholes() == expected, "both in the router's kernel")
    assert "BGP.community: (65535,666) (65535,65281)" in border.attributes()
    _cli(lab, daemon, "unblock", ATTACKER[6])
    wait_for(lambda: border.blackholes() == {ATTACKER[4]}, "one is withdrawn")
    _cli(lab, daemon, "unblock", "--all")
    wait_for(lambda: not border.blackholes(), "all are withdrawn")


def test_by_hand_until_the_end_and_over_a_kill(
    lab: Lab, start_daemon: StartDaemon, make_daemon: StartDaemon, border: Border
) -> None:
    daemon = start_daemon(ANNOUNCED)
    for address, timeout in ((ATTACKER[4], "1h"), (BYSTANDER[4], "3s")):
        _cli(lab, daemon, "block", address, "--timeout", timeout)
    _cli(lab, daemon, "block", "203.0.113.0/24")
    both = {ATTACKER[4], BYSTANDER[4]}
    wait_for(lambda: border.blackholes() == both, "both, and no network")
    wait_for(lambda: border.blackholes() == {ATTACKER[4]}, "one has ended")
    daemon.kill()
    assert border.blackholes() == {ATTACKER[4]}
    daemon.start()
    lab.victim.ip("route", "add", "blackhole", "198.18.0.77", "table", "5277", "proto", "83")
    daemon.kill()
    daemon.start()  # makes the routes those of the active blocks
    wait_for(lambda: border.blackholes() == {ATTACKER[4]}, "no other")
    daemon.stop()
    wait_for(lambda: not border.blackholes(), "withdrawn when the daemon stops")
    assert lab.is_blocked(ATTACKER[4])
    daemon.start()
    wait_for(lambda: border.blackholes() == {ATTACKER[4]}, "announced again")
    with daemon.config.open("a") as file:
        file.write("[block]\nunlisted = 'reject'\n")
    _cli(lab, daemon, "reload")
    assert border.blackholes() == {ATTACKER[4]}
    daemon.config.write_text(daemon.config.read_text().replace("[respond.bgp]\nenabled = true", ""))
    _cli(lab, daemon, "reload")
    wait_for(lambda: not border.blackholes(), "withdrawn when it is switched off")
