"""Our blocks at Debian's CrowdSec: its bouncer, on another host, enforces them, and what others
decided there stays."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from support.crowdsec import PACKAGES, PASSWORD, START_S, Hub
from support.guest import fetch
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.peers]

StartDaemon = Callable[[str], Sentry]
DECOY: Final = 23


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch(tmp_path_factory.mktemp("crowdsec"), PACKAGES)


@pytest.fixture
def hub(lab: Lab, packages: Path) -> Iterator[Hub]:
    with ExitStack() as stack:
        yield Hub(lab, packages, stack)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    login = tmp_path / "login"
    login.write_text(f'user = "sentryfw"\npassword = "{PASSWORD}"\n')
    login.chmod(0o600)
    return (
        f"[decoy]\ntcp = [{DECOY}]\n"
        f'[respond.crowdsec]\nurl = "http://127.0.0.1:8080/"\ncredentials = "{login}"\n'
    )


def _cli(lab: Lab, daemon: Sentry, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "sentryfw", "-c", daemon.config, *words]
    done = lab.victim.run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bouncer_of_another_host_enforces_a_block(
    lab: Lab, start_daemon: StartDaemon, hub: Hub, settings: str
) -> None:
    daemon = start_daemon(settings)
    assert hub.serves(ATTACKER[4])
    lab.start_opening(ATTACKER[4]).connect_ex((VICTIM[4], DECOY))
    daemon.alert(ATTACKER[4])
    wait_for(lambda: ATTACKER[4] in hub.rules(), "the bouncer's element", START_S)
    assert not hub.serves(ATTACKER[4])
    assert hub.serves(BYSTANDER[4])
    assert hub.decisions() == {("sentryfw", "sentryfw/portscan", ATTACKER[4])}
    hub.cscli("decisions", "add", "--ip", ATTACKER[4], "--duration", "1h")  # by another machine
    hub.cscli("decisions", "add", "--ip", "203.0.113.9", "--duration", "1h")
    _cli(lab, daemon, "unblock", ATTACKER[4])
    others = {("cscli", ATTACKER[4]), ("cscli", "203.0.113.9")}
    wait_for(
        lambda: {(origin, address) for origin, _, address in hub.decisions()} == others,
        "ours is deleted, and no other", START_S,
    )  # fmt: skip


def test_a_block_that_can_be_forged_is_an_alert_without_decision(
    lab: Lab, start_daemon: StartDaemon, hub: Hub, settings: str
) -> None:
    daemon = start_daemon(settings)
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4])
    wait_for(lambda: ("sentryfw/portscan", BYSTANDER[4]) in hub.alerts(), "the alert", START_S)
    assert hub.decisions() == set()
    assert hub.serves(BYSTANDER[4])


def test_after_a_restart_the_decisions_are_those_of_the_active_blocks(
    lab: Lab, start_daemon: StartDaemon, hub: Hub, settings: str
) -> None:
    daemon = start_daemon(settings)
    for address in (ATTACKER[4], ATTACKER[6], BYSTANDER[4]):
        _cli(lab, daemon, "block", address, "--timeout", "1h")
    six = "2001:2:0:1::/64"
    by_hand = {("sentryfw", "sentryfw/block", a) for a in (ATTACKER[4], BYSTANDER[4], six)}
    wait_for(lambda: hub.decisions() == by_hand, "three decisions", START_S)
    daemon.stop()
    assert hub.decisions() == by_hand
    _cli(lab, daemon, "unblock", BYSTANDER[4])
    hub.cscli("decisions", "delete", "--ip", ATTACKER[4])
    daemon.start()
    expected = {one for one in by_hand if one[2] != BYSTANDER[4]}
    wait_for(lambda: hub.decisions() == expected, "one deleted, one pushed again", START_S)
    _cli(lab, daemon, "unblock", "--all")
    wait_for(lambda: not hub.decisions(), "none left", START_S)
    reactions = json.loads(_cli(lab, daemon, "explain", ATTACKER[4], "--json"))["reactions"]
    assert "127.0.0.1: decision pushed" in {one["detail"] for one in reactions}
