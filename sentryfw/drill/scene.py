"""The scene: a defended host with one listed port, and an attacker, over a veth pair."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sentryfw.config import Config
from sentryfw.config_metrics import Metrics
from sentryfw.config_respond import Respond
from sentryfw.control import ask
from sentryfw.errors import NotRunning, SentryError
from sentryfw.fields import matches
from sentryfw.netns import Namespace, add_address, connect
from sentryfw.record.entry import Entry
from sentryfw.record.ledger import Ledger

# RFC 2544 and RFC 5180 set these aside for benchmarks between two boxes: nobody lives there.
VICTIM4: Final = "198.18.0.1"
VICTIM6: Final = "2001:2::1"
LISTED_PORT: Final = 80
OWN_PORT: Final = 7
"""Where the attacker's host listens for our own connection to it."""
PATIENCE: Final = 60.0
"""Seconds for what has to happen; on an emulated machine a daemon takes 20 to start."""
SILENCE: Final = 0.4
"""Seconds without an answer that mean a port is out of reach; over a veth one takes 0.1 ms."""


class Scene:
    """Everything that exists only for the drill. Leaves nothing behind."""

    def __init__(self, config: Config) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sentryfw-drill-", dir="/run"))
        self.config_path = self.directory / "sentryfw.toml"
        self._daemon: subprocess.Popen[str] | None = None
        self._listeners: list[socket.socket] = []
        self._namespaces: list[Namespace] = []
        try:
            self.config = _private(config, self.directory)
            self.config_path.write_text(to_toml(self.config))
            self.victim = self._namespace()
            self.attacker = self._namespace()
            self._connect()
            self._start_daemon()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the daemon, the namespaces and the directory."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            try:
                self._daemon.wait(2)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
        for listener in self._listeners:
            listener.close()
        for namespace in self._namespaces:
            namespace.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def daemon_pid(self) -> int:
        return self._daemon.pid if self._daemon else 0

    def take_address(self, number: int, family: int) -> str:
        """Make the attacker come from a fresh source; the address."""
        address = f"198.18.{number}.2" if family == 4 else f"2001:2:0:{number:x}::2"
        prefix = 32 if family == 4 else 128
        add_address(self.attacker, "veth0", f"{address}/{prefix}")
        version = "-6" if family == 6 else "-4"
        self.attacker.ip(
            version, "route", "replace", _victim(family), "dev", "veth0", "src", address
        )
        return address

    def block_of(self, address: str, since: float) -> Entry | None:
        """The ledger's newest block of an address, waited for until `since` + PATIENCE."""
        while True:
            with Ledger(self.config.paths.ledger) as ledger:
                entry = ledger.latest_blocks([address]).get(address)
            if entry is not None or time.time() > since + PATIENCE:
                return entry
            time.sleep(0.02)

    def reaches(
        self, here: Namespace, source: str, target: str, port: int, patience: float = PATIENCE
    ) -> bool:
        """Whether a TCP connection from a source address is answered within so many seconds."""

        def attempt() -> bool:
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as client:
                client.settimeout(patience)
                client.bind((source, 0))
                try:
                    client.connect((target, port))
                except OSError:
                    return False
                return True

        return here.call(attempt)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run sentryfw inside the defended host."""
        return self.victim.run(
            sys.executable, "-m", "sentryfw", "--config", self.config_path, *words
        )

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._namespaces.append(namespace)
        return namespace

    def _connect(self) -> None:
        interface = self.interface
        connect(self.victim, self.attacker, (interface, "veth0"))
        add_address(self.victim, interface, f"{VICTIM4}/15")
        add_address(self.victim, interface, f"{VICTIM6}/48")
        self._listen(self.victim, LISTED_PORT)
        self._listen(self.attacker, OWN_PORT)

    @property
    def interface(self) -> str:
        """The defended host's: one that the configuration watches, not one that leads inside."""
        watch = self.config.watch
        names = [name.replace("*", "0") for name in watch.interfaces] or ["veth0", "outside0"]
        return next((name for name in names if not matches(name, watch.inside)), names[0])

    def _listen(self, namespace: Namespace, port: int) -> None:
        """A listening socket; the kernel finishes handshakes for it without our help."""
        listener = namespace.call(
            lambda: socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
        )
        self._listeners.append(listener)

    def _start_daemon(self) -> None:
        log = (self.directory / "daemon.log").open("w")
        with log:
            self._daemon = self.victim.popen(
                [sys.executable, "-m", "sentryfw.daemon", "--config", self.config_path],
                stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": ""},
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._daemon.poll() is not None:
                break
            try:
                ask(self.config.paths.control, {"do": "status"})
            except NotRunning:
                time.sleep(0.02)
            else:
                return
        said = (self.directory / "daemon.log").read_text()
        raise SentryError(f"the daemon does not come up: {said.strip()}")


def _victim(family: int) -> str:
    return VICTIM4 if family == 4 else VICTIM6


def _private(config: Config, directory: Path) -> Config:
    """The operator's configuration, in directories of the drill; it blocks even where the
    operator only observes, because that is what is drilled. Figures of a drill are nobody's, and
    reactions would be felt outside: hosts.deny, a command, a mail."""
    paths = {name: directory / name for name in ("state", "runtime", "log")}
    return config.model_copy(
        update={
            "paths": config.paths.model_copy(update=paths),
            "metrics": Metrics(),
            "respond": Respond(),
            "block": config.block.model_copy(update={"tcp": "block", "udp": "block"}),
            "detect": config.detect.model_copy(update={"mode": "block"}),
        }
    )


def to_toml(config: Config) -> str:
    """A configuration as TOML. JSON's strings, numbers, booleans and arrays are TOML's too."""
    lines = []
    for section, values in config.model_dump(mode="json", exclude_none=True).items():
        lines.append(f"[{section}]")
        lines += (f"{key} = {_toml(value)}" for key, value in values.items())
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401 - whatever model_dump gives
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
