"""The scene of a drill: a defended host with one listed port, and an attacker, on a veth pair."""

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

from sentryfw.config.metrics import Metrics
from sentryfw.config.model import Config
from sentryfw.config.respond import Respond
from sentryfw.config.types import matches
from sentryfw.control.client import ask
from sentryfw.errors import NotRunning, SentryError
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord
from sentryfw.tools.drill.attacks import LISTED_PORT
from sentryfw.tools.drill.namespace import Namespace, add_address, connect

# RFC 2544 and RFC 5180 reserve these for benchmarks between two hosts.
VICTIM4: Final = "198.18.0.1"
VICTIM6: Final = "2001:2::1"
OWN_PORT: Final = 7
"""The port of the attacker's host for connections of the defended host."""
ANSWER_TIMEOUT_S: Final = 60.0
"""Seconds for events that have to happen."""
START_TIMEOUT_S: Final = 60.0
"""Seconds for the daemon to start; on an emulated machine it takes 20."""
SILENCE_S: Final = 0.4
"""Seconds without an answer after which a port is out of reach; an answer over a veth takes
0.1 ms."""
POLL_S: Final = 0.02


class Scene:
    """The namespaces, files and processes of a drill. close() removes all of them."""

    def __init__(self, config: Config, directory: Path | None = None) -> None:
        """`directory`: an empty one, which close() deletes; by default a new one in /run."""
        self.directory = directory or Path(tempfile.mkdtemp(prefix="sentryfw-drill-", dir="/run"))
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
        """Give the attacker a new source address, and return it."""
        address = f"198.18.{number}.2" if family == 4 else f"2001:2:0:{number:x}::2"
        prefix = 32 if family == 4 else 128
        add_address(self.attacker, "veth0", f"{address}/{prefix}")
        version = "-6" if family == 6 else "-4"
        self.attacker.ip(
            version, "route", "replace", _victim(family), "dev", "veth0", "src", address
        )
        return address

    def block_of(self, address: str, since: float) -> DecisionRecord | None:
        """Return the newest block of an address in the ledger; wait for it until `since` +
        ANSWER_TIMEOUT_S, then return None."""
        while True:
            with Ledger(self.config.paths.ledger) as ledger:
                entry = ledger.latest_blocks([address]).get(address)
            if entry is not None or time.time() > since + ANSWER_TIMEOUT_S:
                return entry
            time.sleep(POLL_S)

    def reaches(
        self, here: Namespace, source: str, target: str, port: int, timeout: float | None = None
    ) -> bool:
        """Return whether a TCP connection from a source address is answered within `timeout`
        seconds, by default ANSWER_TIMEOUT_S."""

        def attempt() -> bool:
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as client:
                client.settimeout(ANSWER_TIMEOUT_S if timeout is None else timeout)
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
            sys.executable, "-I", "-m", "sentryfw", "--config", self.config_path, *words
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
        """The interface of the defended host: a watched one of the default zone."""
        watch = self.config.watch
        names = [name.replace("*", "0") for name in watch.interfaces] or ["veth0", "outside0"]
        zoned = [name for zone in self.config.named_zones() for name in zone.interfaces]
        return next((name for name in names if not matches(name, zoned)), names[0])

    def _listen(self, namespace: Namespace, port: int) -> None:
        """Open a listening socket; the kernel finishes handshakes for it by itself."""
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
                [sys.executable, "-I", "-m", "sentryfw.daemon.main", "--config", self.config_path],
                stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": ""},
            )  # fmt: skip
        end = time.monotonic() + START_TIMEOUT_S
        why = f"it does not answer within {START_TIMEOUT_S:g} s"
        while time.monotonic() < end:
            if (code := self._daemon.poll()) is not None:
                why = f"it ended by signal {-code}" if code < 0 else f"it ended with code {code}"
                break
            try:
                ask(self.config.paths.control, {"do": "status"})
            except NotRunning:
                time.sleep(POLL_S)
            else:
                return
        text = (self.directory / "daemon.log").read_text().strip()
        raise SentryError(f"the daemon of the drill did not start: {why}{text and f': {text}'}")


def _victim(family: int) -> str:
    return VICTIM4 if family == 4 else VICTIM6


def _private(config: Config, directory: Path) -> Config:
    """Return the operator's configuration with directories of the drill. It blocks even if the
    operator only observes, because a drill tests blocks. It has no metrics, and no reactions, which
    would act outside: hosts.deny, a command, a mail."""
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
    """Return a configuration as TOML. Strings, numbers, booleans and arrays are as in JSON."""
    sections = config.model_dump(mode="json", exclude_none=True)
    lines = [f"zone = {_toml(sections.pop('zone'))}"]
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += (f"{key} = {_toml(value)}" for key, value in values.items())
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:  # noqa: ANN401 - any value of model_dump()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
