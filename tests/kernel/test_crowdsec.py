"""Our blocks at Debian's CrowdSec: its bouncer, on another host, enforces them, and what others
decided there stays."""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.guest import Guest, fetch
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry
from support.neighbours import BOUNCER
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.peers]

StartDaemon = Callable[[str], Sentry]
PACKAGES: Final = ("crowdsec", "crowdsec-firewall-bouncer")
WEB: Final = "192.0.2.80"
"""Another host, with CrowdSec's bouncer."""
HUB: Final = "192.0.3.1"
DECOY: Final = 23
PASSWORD: Final = "of-the-lab"  # noqa: S105 - of a namespace
SETTINGS: Final = "/etc/crowdsec/lab.yaml"
LAPI: Final = """
common: { daemonize: false, log_media: stdout, log_level: info, working_dir: . }
config_paths:
  config_dir: /etc/crowdsec
  data_dir: /run
  simulation_path: /etc/crowdsec/simulation.yaml
  hub_dir: /run/hub
  index_path: /run/hub/.index.json
crowdsec_service: { acquisition_path: /etc/crowdsec/acquis.yaml }
db_config: { type: sqlite, db_path: /run/crowdsec.db, use_wal: true }
api:
  client: { credentials_path: /run/other.yaml }
  server:
    listen_uri: ":8080"
    profiles_path: /etc/crowdsec/profiles.yaml
    console_path: /run/console.yaml
prometheus: { enabled: false }
"""
START_S: Final = 60.0


class Hub:
    """CrowdSec's local API on the victim, and its bouncer on another host."""

    def __init__(self, lab: Lab, root: Path, stack: ExitStack) -> None:
        self.lab = lab
        self.web = stack.enter_context(Namespace())
        connect(lab.victim, self.web, ("hub0", "hub0"))
        add_address(lab.victim, "hub0", f"{HUB}/24")
        add_address(self.web, "hub0", "192.0.3.80/24")
        connect(lab.attacker, self.web, ("side0", "side0"))
        add_address(lab.attacker, "side0", "192.0.2.2/24")
        add_address(self.web, "side0", f"{WEB}/24")
        self.web.ip("route", "add", "198.18.0.0/24", "via", "192.0.2.2")
        self.listener = self.web.call(lambda: socket.create_server((WEB, 80)))
        stack.callback(self.listener.close)
        self._lapi = stack.enter_context(Guest(lab.victim, root))
        self._bouncer = stack.enter_context(Guest(self.web, root))
        self._start_lapi()
        self._start_bouncer()

    def _start_lapi(self) -> None:
        self._lapi.write(SETTINGS, LAPI)
        self._lapi.write("/run/hub/.index.json", "{}")
        self._lapi.write("/run/console.yaml", "share_manual_decisions: false\n")
        self._lapi.write("/etc/crowdsec/simulation.yaml", "simulation: false\n")
        for machine in ("sentryfw", "other"):
            self.cscli("machines", "add", machine, "-p", PASSWORD, "-f", f"/run/{machine}.yaml")
        url, login = "http://127.0.0.1:8080/", {"login": "other", "password": PASSWORD}
        self._lapi.write("/run/other.yaml", json.dumps({"url": url, **login}))  # cscli's own
        self.cscli("bouncers", "add", "lab", "-k", "lab")
        process = self._lapi.start("crowdsec", "-c", SETTINGS, "-no-cs")

        def listens() -> bool:
            assert process.poll() is None, self._lapi.log("crowdsec")
            return "Local API listening" in self._lapi.log("crowdsec")

        wait_for(listens, "CrowdSec's local API", START_S)

    def _start_bouncer(self) -> None:
        place = "/etc/crowdsec/bouncers/lab.yaml"
        self._bouncer.write(place, BOUNCER.replace("127.0.0.1", HUB))
        self._bouncer.start("crowdsec-firewall-bouncer", "-c", place)
        wait_for(lambda: "crowdsec-blacklists" in self.rules(), "the bouncer's rules", START_S)

    def cscli(self, *words: str) -> str:
        return self._lapi.run("cscli", "-c", SETTINGS, "-o", "json", *words)

    def rules(self) -> str:
        return self.web.run("nft", "list", "ruleset").stdout

    def decisions(self) -> set[tuple[str, str, str]]:
        """Return origin, scenario and source of each active decision."""
        alerts: list[dict[str, Any]] = json.loads(self.cscli("decisions", "list", "-a")) or []
        found = [decision for alert in alerts for decision in alert["decisions"]]
        return {(one["origin"], one["scenario"], one["value"]) for one in found}

    def alerts(self) -> set[tuple[str, str]]:
        """Return scenario and source of each alert."""
        alerts: list[dict[str, Any]] = json.loads(self.cscli("alerts", "list", "-a")) or []
        return {(alert["scenario"], alert["source"]["value"]) for alert in alerts}

    def serves(self, source: str) -> bool:
        """Return whether the other host answers a source of the attacker's."""
        with self.lab.attacker.call(socket.socket) as client:
            client.bind((source, 0))
            client.settimeout(1.0)
            return client.connect_ex((WEB, 80)) == 0


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
