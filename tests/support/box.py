"""A host in a network namespace of its own: the kernel's table, the daemon, real processes."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, Final, TypeVar

from sentryfw.config.types import IPNetwork
from sentryfw.control import client
from sentryfw.errors import NotRunning
from sentryfw.netfilter.table import Table
from sentryfw.tools.drill.namespace import Namespace, add_address
from support.host import BIN, GATEWAY, OWN, Host, environment
from support.inprocess import SERVICE_USER
from support.waiting import wait_for

T = TypeVar("T")

AS_UNPRIVILEGED: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

LAUNCH: Final = """\
import sys
from pathlib import Path
from sentryfw.host import account; from sentryfw import config
from sentryfw.cli import app; from sentryfw.setup import service
sys.argv[0], root = {program!r}, Path({root!r})
config.DEFAULT_PATH = root / "etc" / "sentryfw.toml"
account.USER = {user!r}
service.ETC = root / "system"
service.VENDOR = root / "vendor"
service.SYSTEMD = root / "systemd"
app.main()
"""
"""support.inprocess.moved(), for a process of its own."""


class Box(Host):
    """One host with an address and a gateway, a configuration, and its files in `home`."""

    def __init__(self, settings: str = "") -> None:
        super().__init__(settings)
        self.unit = self.home / "system" / "systemd" / "system" / "sentryfw.service"
        self.systemd = self.home / "systemd"
        self.namespace = Namespace()
        self.namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
        self.namespace.ip("link", "set", "veth0", "up")
        add_address(self.namespace, "veth0", f"{OWN}/24")
        self.namespace.ip("route", "add", "default", "via", GATEWAY)

    def __exit__(self, *_: object) -> None:
        self.namespace.close()
        super().__exit__()

    # --- the command line, as a process

    def spawn(
        self, *words: str | Path, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> CompletedProcess[str]:
        """Run it as a process, to its end. No run may end in a traceback."""
        command = [*prefix, *self.launch(*words)]
        done = self.namespace.run(*command, env=environment(env), timeout=120)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def launch(self, *words: str | Path) -> list[str | Path]:
        """Return the command that starts it as a process, with these words only."""
        program = str(BIN / "sentryfw")
        code = LAUNCH.format(program=program, root=str(self.home), user=SERVICE_USER)
        return [sys.executable, "-P", "-c", code, *words]

    # --- the daemon

    def start_daemon(
        self, path: Path | None = None, prefix: Sequence[str | Path] = ()
    ) -> Popen[str]:
        """Start sentryfwd, and wait until it answers."""
        with (self.home / "daemon.log").open("a") as log:
            daemon = self.namespace.popen(
                [*prefix, BIN / "sentryfwd", "-c", path or self.config], stdout=log, stderr=log,
                env=environment(),
            )  # fmt: skip
        wait_for(lambda: self._answers(daemon), "the daemon answers", 20)
        return daemon

    def _answers(self, daemon: Popen[str]) -> bool:
        assert daemon.poll() is None, (self.home / "daemon.log").read_text()
        try:
            answer = client.ask(self.settings.paths.control, {"do": "status"})
        except NotRunning:
            return False
        return bool(answer["pid"] == daemon.pid)

    # --- the kernel

    def nft(self, *words: str | Path) -> str:
        done = self.namespace.run("nft", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, function: Callable[[], T]) -> T:
        return self.namespace.call(function)

    def install(self) -> None:
        done = self.sentryfw("install", "--no-service")
        assert done.returncode == 0, done.stderr

    def ruleset(self) -> str:
        return self.nft("-s", "list", "ruleset")

    def elements(self, name: str) -> dict[str, dict[str, Any]]:
        listing = json.loads(self.nft("-j", "list", "set", "inet", "sentryfw", name))
        [found] = [item["set"] for item in listing["nftables"] if "set" in item]
        return dict(_element(item) for item in found.get("elem", []))

    def never_blocked(self) -> list[IPNetwork]:
        with contextlib.closing(self.inside(Table)) as table:
            return table.sets.never_blocked()

    def add_block(self, *addresses: str) -> None:
        elements = ", ".join(f"{address} timeout 1h" for address in addresses)
        self.nft(f"add element inet sentryfw block4 {{ {elements} }}")


def _element(item: Any) -> tuple[str, dict[str, Any]]:
    fields = item["elem"] if isinstance(item, dict) and "elem" in item else {"val": item}
    value = fields["val"]
    if isinstance(value, dict):
        value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return value, fields
