"""SentryFW as a package installed it in a Machine: its service's command, and who scans it."""

import json
import subprocess
from typing import Any, Final

from support.lab import Lab
from support.machine import Machine
from support.waiting import wait_for

USER: Final = "sentryfw"


class Packaged:
    def __init__(self, machine: Machine, unit: str) -> None:
        self.machine = machine
        self.unit = unit
        self.process: subprocess.Popen[Any] | None = None

    @property
    def lab(self) -> Lab:
        return self.machine.lab

    def start(self) -> None:
        """The unit's ExecStart=, with the user and the capability that systemd would give it."""
        unit = self.machine.path(self.unit).read_text()
        [line] = [text for text in unit.splitlines() if text.startswith("ExecStart=")]
        kept = "-all,+net_admin"
        sets = [f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}"]
        ids = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        self.machine.said("systemd-tmpfiles", "--create", "sentryfw.conf")
        words = line.removeprefix("ExecStart=").split()
        self.process = self.machine.start("setpriv", *ids, *sets, *words)
        wait_for(self._answers, "the daemon answers", 30)

    def _answers(self) -> bool:
        assert self.process is not None
        log = self.machine.path("/root/output")
        assert self.process.poll() is None, log.read_text()
        return self.status().get("daemon") == "running"

    def status(self) -> dict[str, Any]:
        done = self.machine.run("sentryfw", "status", "--json")
        return json.loads(done.stdout) if done.stdout else {}

    def blocked(self) -> list[str]:
        listed = json.loads(self.machine.said("sentryfw", "list", "--json"))
        return [item["address"] for item in listed]

    def ended(self) -> bool:
        """Whether the daemon has ended."""
        assert self.process is not None
        return self.process.poll() is not None

    def has_table(self) -> bool:
        return "table inet sentryfw" in self.lab.nft("list", "tables")

    def leftovers(self) -> list[str]:
        """Everything on the disk that bears our name."""
        found = self.machine.said("find", "/", "-xdev", "-name", "*sentryfw*")
        return found.split()
