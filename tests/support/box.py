"""A host in a namespace of its own, and the command line in it.

What sentryfw keeps outside its [paths] (the default configuration, the systemd unit) is moved
into the box's directory: no test may touch the machine's own /etc.
"""

import json
import os
import pty
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, Final, Self

from sentryfw import control
from sentryfw.config import Config, load
from sentryfw.errors import NotRunning
from sentryfw.netns import Namespace, add_address
from support.waiting import wait_for

OWN: Final = "198.18.0.1"
GATEWAY: Final = "198.18.0.254"
BIN: Final = Path(sys.executable).parent
NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
SERVICE_USER: Final = "daemon"
"""A system user that is there everywhere, in place of `sentryfw`: no test makes one."""
PER_CALL: Final = ("SSH_CONNECTION", "SSH_CLIENT", "SENTRYFW_CONFIG", "NOTIFY_SOCKET")
"""What the environment of the tests themselves must not decide."""

LAUNCH: Final = """\
import sys
from pathlib import Path
from sentryfw import account, config
from sentryfw.cli import app, service
sys.argv[0], root = {program!r}, Path({root!r})
config.DEFAULT_PATH = root / "etc" / "sentryfw.toml"
account.USER = {user!r}
service.ETC = root / "system"
service.VENDOR = root / "vendor"
service.SYSTEMD = root / "systemd"
{prelude}
app.main()
"""


class Box:
    """One host with an address and a gateway, a configuration, and its files in `home`."""

    def __init__(self, settings: str = "") -> None:
        # Not pytest's tmp_path: others must be able to enter it, and the path of a UNIX socket
        # has room for 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
        self.home.chmod(0o755)
        self.config = self.home / "sentryfw.toml"
        self.configure(settings)
        self.default_config = self.home / "etc" / "sentryfw.toml"
        self.unit = self.home / "system" / "systemd" / "system" / "sentryfw.service"
        self.systemd = self.home / "systemd"
        self.namespace = Namespace()
        self.namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
        self.namespace.ip("link", "set", "veth0", "up")
        add_address(self.namespace, "veth0", f"{OWN}/24")
        self.namespace.ip("route", "add", "default", "via", GATEWAY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.namespace.close()
        shutil.rmtree(self.home)

    def configure(self, settings: str, path: Path | None = None) -> None:
        """Write the configuration: [paths] into `home`, and these settings."""
        names = ("state", "runtime", "log")
        paths = "\n".join(f"{name} = {json.dumps(str(self.home / name))}" for name in names)
        (path or self.config).write_text(f"[paths]\n{paths}\n{settings}\n")

    @property
    def settings(self) -> Config:
        return load(self.config)

    # --- the command line

    def sentryfw(self, *words: str | Path, **options: Any) -> CompletedProcess[str]:
        """Run it with the box's configuration, to its end."""
        return self.run("-c", self.config, *words, **options)

    def run(
        self,
        *words: str | Path,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        prelude: str = "",
        program: str = "sentryfw",
    ) -> CompletedProcess[str]:
        """Run it with these words only. No run may end in a traceback."""
        command = [*prefix, *self.launch(*words, prelude=prelude, program=program)]
        done = self.namespace.run(*command, env=environment(env), timeout=120)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def launch(
        self, *words: str | Path, prelude: str = "", program: str = "sentryfw"
    ) -> list[str | Path]:
        """The words that start it. `prelude`: Python run before, to simulate another host."""
        code = LAUNCH.format(
            program=str(BIN / program), root=str(self.home), user=SERVICE_USER, prelude=prelude
        )
        return [sys.executable, "-P", "-c", code, *words]

    def on_terminal(self, *words: str | Path, columns: int = 80) -> tuple[int, str]:
        """The exit code, and what a terminal was sent."""
        ours, terminal = pty.openpty()
        process = self.namespace.popen(
            self.launch("-c", self.config, *words), stdout=terminal, stderr=terminal,
            env=environment({"TERM": "xterm-256color", "COLUMNS": str(columns)}),
        )  # fmt: skip
        os.close(terminal)
        received = b""
        with suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ours, 1 << 16):
                received += data
        os.close(ours)
        return process.wait(), received.decode()

    # --- the daemon

    def start_daemon(self, path: Path | None = None) -> Popen[str]:
        """Start sentryfwd, and wait until it answers."""
        with (self.home / "daemon.log").open("a") as log:
            daemon = self.namespace.popen(
                [BIN / "sentryfwd", "-c", path or self.config], stdout=log, stderr=log,
                env=environment(),
            )  # fmt: skip
        wait_for(lambda: self._answers(daemon), "the daemon answers", 20)
        return daemon

    def _answers(self, daemon: Popen[str]) -> bool:
        assert daemon.poll() is None, (self.home / "daemon.log").read_text()
        try:
            answer = control.ask(self.settings.paths.control, {"do": "status"})
        except NotRunning:
            return False
        return bool(answer["pid"] == daemon.pid)

    # --- the kernel

    def nft(self, *words: str | Path) -> str:
        done = self.namespace.run("nft", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ruleset(self) -> str:
        """Everything nftables holds, without what a clock or a packet changes."""
        return self.nft("-s", "list", "ruleset")

    def elements(self, name: str) -> dict[str, dict[str, Any]]:
        """A set of our table: address -> timeout, expires ..."""
        listing = json.loads(self.nft("-j", "list", "set", "inet", "sentryfw", name))
        [found] = [item["set"] for item in listing["nftables"] if "set" in item]
        return dict(_element(item) for item in found.get("elem", []))

    # --- the disk

    def files(self) -> set[str]:
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Ours, but for what every call decides by itself."""
    kept = {name: value for name, value in os.environ.items() if name not in PER_CALL}
    return {**kept, **(more or {})}


def _element(item: Any) -> tuple[str, dict[str, Any]]:
    fields = item["elem"] if isinstance(item, dict) and "elem" in item else {"val": item}
    value = fields["val"]
    if isinstance(value, dict):
        value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return value, fields
