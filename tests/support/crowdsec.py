"""Debian's crowdsec in namespaces: its local API on the victim, its bouncer on another host."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.guest import Guest
from support.lab import Lab
from support.neighbours import BOUNCER
from support.waiting import wait_for

PACKAGES: Final = ("crowdsec", "crowdsec-firewall-bouncer")
URL: Final = "http://127.0.0.1:8080/"
KEY: Final = "lab"
"""A bouncer's key."""
WEB: Final = "192.0.2.80"
"""Another host, with CrowdSec's bouncer."""
HUB: Final = "192.0.3.1"
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


class LocalApi:
    """CrowdSec's local API on the victim, with two machines and a bouncer's key."""

    def __init__(self, lab: Lab, root: Path, stack: ExitStack) -> None:
        self.lab = lab
        self._lapi = stack.enter_context(Guest(lab.victim, root))
        self._lapi.write(SETTINGS, LAPI)
        self._lapi.write("/run/hub/.index.json", "{}")
        self._lapi.write("/run/console.yaml", "share_manual_decisions: false\n")
        self._lapi.write("/etc/crowdsec/simulation.yaml", "simulation: false\n")
        for machine in ("sentryfw", "other"):
            self.cscli("machines", "add", machine, "-p", PASSWORD, "-f", f"/run/{machine}.yaml")
        login = {"url": URL, "login": "other", "password": PASSWORD}
        self._lapi.write("/run/other.yaml", json.dumps(login))  # cscli's own
        self.cscli("bouncers", "add", "lab", "-k", KEY)
        self.start()

    def start(self) -> None:
        """Start the API."""
        self._process: Popen[Any] = self._lapi.start("crowdsec", "-c", SETTINGS, "-no-cs")

        def listens() -> bool:
            assert self._process.poll() is None, self._lapi.log("crowdsec")
            return "Local API listening" in self._lapi.log("crowdsec")

        wait_for(listens, "CrowdSec's local API", START_S)

    def stop(self) -> None:
        """End the API; its decisions stay in its database."""
        self._lapi.run("sh", "-c", "kill $(pidof crowdsec)")
        self._process.wait(START_S)

    def cscli(self, *words: str) -> str:
        return self._lapi.run("cscli", "-c", SETTINGS, "-o", "json", *words)

    def decisions(self) -> set[tuple[str, str, str]]:
        """Return origin, scenario and source of each active decision."""
        alerts: list[dict[str, Any]] = json.loads(self.cscli("decisions", "list", "-a")) or []
        found = [decision for alert in alerts for decision in alert["decisions"]]
        return {(one["origin"], one["scenario"], one["value"]) for one in found}

    def alerts(self) -> set[tuple[str, str]]:
        """Return scenario and source of each alert."""
        alerts: list[dict[str, Any]] = json.loads(self.cscli("alerts", "list", "-a")) or []
        return {(alert["scenario"], alert["source"]["value"]) for alert in alerts}


class Hub(LocalApi):
    """CrowdSec's local API, and its bouncer on another host."""

    def __init__(self, lab: Lab, root: Path, stack: ExitStack) -> None:
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
        super().__init__(lab, root, stack)
        self._bouncer = stack.enter_context(Guest(self.web, root))
        self._start_bouncer()

    def _start_bouncer(self) -> None:
        place = "/etc/crowdsec/bouncers/lab.yaml"
        self._bouncer.write(place, BOUNCER.replace("127.0.0.1", HUB))
        self._bouncer.start("crowdsec-firewall-bouncer", "-c", place)
        wait_for(lambda: "crowdsec-blacklists" in self.rules(), "the bouncer's rules", START_S)

    def rules(self) -> str:
        return self.web.run("nft", "list", "ruleset").stdout

    def serves(self, source: str) -> bool:
        """Return whether the other host answers a source of the attacker's."""
        with self.lab.attacker.call(socket.socket) as client:
            client.bind((source, 0))
            client.settimeout(1.0)
            return client.connect_ex((WEB, 80)) == 0
