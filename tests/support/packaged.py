"""SentryFW as a package installed it in a Machine: its service, and who scans it."""

import json
from typing import Any

from support.lab import Lab
from support.machine import Machine


class Packaged:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.former_pid = ""
        """Of the daemon before the last upgrade."""

    @property
    def lab(self) -> Lab:
        return self.machine.lab

    def is_running(self) -> bool:
        """Whether the daemon answers."""
        return self.status().get("daemon") == "running"

    def status(self) -> dict[str, Any]:
        done = self.machine.run("sentryfw", "status", "--json")
        return json.loads(done.stdout) if done.stdout else {}

    def show(self, name: str) -> str:
        """A property of the service, as systemd tells it."""
        return self.machine.said("systemctl", "show", "--value", "-p", name, "sentryfw").strip()

    def blocked(self) -> list[str]:
        listed = json.loads(self.machine.said("sentryfw", "list", "--json"))
        return [item["address"] for item in listed]

    def leftovers(self) -> list[str]:
        """Everything on the disk that bears our name."""
        return self.machine.said("find", "/", "-xdev", "-name", "*sentryfw*").split()
