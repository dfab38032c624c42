"""Firewalls in namespaces, and a real redis-server between them with the files of `fleet init`."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Any, Final, Self

from sentryfw.host import account
from sentryfw.setup.fleet.hub_files import HubFiles, HubPlan
from sentryfw.setup.fleet.invitation import Invitation
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support import users
from support.box import Box
from support.host import environment
from support.waiting import wait_for

HUB: Final = "10.77.0.1"
PORT: Final = 6380
LINK_ID: Final = 64998
"""User and group of the link where it runs as its unit does."""


class RealHub:
    """A redis-server in a namespace of its own."""

    def __init__(self, home: Path) -> None:
        """`home`: a directory for its files."""
        self.home = home
        self.namespace = Namespace()
        add_address(self.namespace, "lo", f"{HUB}/32")
        self.files = HubFiles(home / "hub")
        self.hosts: tuple[str, ...] = (HUB,)
        self.data = home / "data"
        self.data.mkdir()
        self.process: Popen[str] | None = None
        self._links = 0

    def invite(self, keys: dict[str, str], now: datetime | None = None) -> dict[str, Invitation]:
        """Write its files for members with these signing keys."""
        plan = HubPlan(self.hosts, PORT, data=str(self.data))
        return self.files.write(plan, keys, now or datetime.now(UTC))

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with (self.home / "hub.log").open("a") as log:
            self.process = self.namespace.popen(
                ["redis-server", self.files.directory / "redis.conf"], stdout=log, stderr=log
            )
        wait_for(self._serves, "the hub serves", 20)

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "hub.log").read_text()
        return bool(self.namespace.run("ss", "-ltnH", "sport", "=", str(PORT)).stdout.strip())

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def reach(self, other: Namespace) -> str:
        """Connect a namespace with it by the interface hub0 there; return the gateway."""
        self._links += 1
        number, name = self._links, f"hub{self._links}"
        connect(self.namespace, other, (name, "hub0"))
        add_address(self.namespace, name, f"10.77.{number}.1/24")
        add_address(other, "hub0", f"10.77.{number}.2/24")
        other.ip("route", "add", HUB, "via", f"10.77.{number}.1")
        return f"10.77.{number}.1"

    def close(self) -> None:
        self.namespace.close()


class Firewall:
    """A box that is a member: its daemon and its link."""

    def __init__(self, name: str, stack: ExitStack, *, is_service: bool = False) -> None:
        """`is_service`: daemon and link run as users of their own, as by their units."""
        self.name = name
        self.box = stack.enter_context(Box())
        self._accounts = self._with_accounts() if is_service else []
        if is_service:
            users.own(self.box.home)
        self.key = self.ask("key").strip()
        self.daemon: Popen[str] | None = None
        self.link: Popen[str] | None = None
        self.gateway = ""
        self.report = self.box.settings.paths.link_status
        self.report.parent.mkdir()
        if is_service:
            os.chown(self.report.parent, LINK_ID, LINK_ID)

    def _with_accounts(self) -> list[str | Path]:
        """Return the start of a command that sees the link's user among the machine's."""
        entries = {
            "passwd": f"{account.LINK_USER}:x:{LINK_ID}:{LINK_ID}::/nonexistent:/bin/false\n",
            "group": f"{account.LINK_USER}:x:{LINK_ID}:\n",
        }
        for name, entry in entries.items():
            (self.box.home / name).write_text(Path("/etc", name).read_text() + entry)
        script = (
            'for name in passwd group; do mount --bind "$0/$name" "/etc/$name"; done; exec "$@"'
        )
        return ["unshare", "--mount", "sh", "-ec", script, self.box.home]

    def as_link(self) -> list[str | Path]:
        """Return the start of a command that runs as the link's unit does."""
        if not self._accounts:
            return []
        group = users.service_user().pw_gid
        ids = [f"--reuid={LINK_ID}", f"--regid={LINK_ID}", f"--groups={group}"]
        return [*self._accounts, "setpriv", *ids, "--bounding-set=-all", "--no-new-privs"]

    def ask(self, *words: str, given: str = "") -> str:
        """Run `sentryfw fleet`; `given` is the text on its standard input."""
        lines = self.box.home / "given"
        lines.write_text(given)
        done = self.box.namespace.run(
            *self._accounts, "sh", "-c", 'file=$1; shift; exec "$@" < "$file"', "sh", lines,
            *self.box.launch("-c", str(self.box.config), "fleet", *words),
            env=environment(None),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_daemon(self) -> None:
        rights = users.demoted("+net_admin") if self._accounts else []
        self.daemon = self.box.start_daemon(prefix=[*self._accounts, *rights])

    def start_link(self) -> None:
        """Start the link."""
        with (self.box.home / "link.log").open("a") as log:
            self.link = self.box.namespace.popen(
                [*self.as_link(), sys.executable, "-I", "-m", "sentryfw.fleet.link.main",
                 "-c", self.box.config],
                stdout=log, stderr=log, env={"PATH": os.defpath},
            )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return what the link reports; nothing before it did."""
        try:
            found: dict[str, Any] = json.loads(self.report.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def blocked(self) -> set[str]:
        """Return what other members block here, in the kernel."""
        return {*self.box.elements("fleet4"), *self.box.elements("fleet6")}

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the daemon's own events of one kind."""
        lines = self.box.settings.paths.events.read_text().split("\n")[:-1]
        notes = [json.loads(line).get("sentryfw", {}) for line in lines]
        return [note for note in notes if note.get("event") == kind]

    def log(self) -> str:
        return (self.box.home / "link.log").read_text()

    def kill(self, what: str) -> None:
        """Kill the daemon or the link with SIGKILL."""
        process: Popen[str] = getattr(self, what)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in (self.link, self.daemon):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(20)


class FleetLab:
    """A hub and some firewalls, joined."""

    def __init__(
        self, home: Path, names: tuple[str, ...] = ("fw1", "fw2"), services: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`services`: the firewalls whose programs run as users of their own; `others`: further
        addresses of the hub."""
        self._stack = ExitStack()
        self.hub = RealHub(home)
        self._stack.callback(self.hub.close)
        self.hub.hosts += others
        self.firewalls = {
            name: Firewall(name, self._stack, is_service=name in services) for name in names
        }
        keys = {name: firewall.key for name, firewall in self.firewalls.items()}
        self.invitations = self.hub.invite(keys)

    def __enter__(self) -> Self:
        self.hub.start()
        for name, firewall in self.firewalls.items():
            firewall.gateway = self.hub.reach(firewall.box.namespace)
            firewall.ask("join", "--trust", "full", given=self.invitations[name].encode())
            firewall.box.install()
            firewall.start_daemon()
            self._stack.callback(firewall.stop)
            firewall.start_link()
        for firewall in self.firewalls.values():
            wait_for(lambda one=firewall: one.status().get("reached"), "the hub is reached", 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at_end(self, close: Callable[[], None]) -> None:
        """Call a function before everything ends."""
        self._stack.callback(close)
