"""Two hosts on a wire: one is defended, the other attacks.

Sources are forged: the defended host sends all answers to the attacker's end of the wire, where
nftables counts and drops them.
"""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from bench.build import BUILD
from bench.frames import write_frames
from sentryfw.config import load_with_sources
from sentryfw.control.client import ask
from sentryfw.errors import NotRunning
from sentryfw.host import last_good
from sentryfw.netlink.nftables import NFTA_DATA_VALUE
from sentryfw.tools.drill.namespace import Namespace, connect

T = TypeVar("T")

WIRE: Final = "bench0"
VICTIM: Final = "198.18.0.1"
ATTACKER: Final = "198.18.0.2"
MACS: Final = {"victim": "02:53:46:57:42:01", "attacker": "02:53:46:57:42:02"}
"""Addresses that bench/c/guard.c checks."""
WAIT_TIMEOUT_S: Final = 30.0
FIRST_CPU: Final = 0
LAST_CPU: Final = (os.cpu_count() or 1) - 1

NOT_OPERATORS: Final = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
"""Variables of containers and builds that operators do not set: with them, modules are compiled at
each start."""

COUNT_ANSWERS: Final = """
table inet answers {
	counter synacks {
	}
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 198.18.0.2 accept
		tcp flags & (syn | ack) == syn | ack counter name "synacks" drop
		meta l4proto tcp drop
	}
}
"""


WITH_RULESETS: Final = """
from pathlib import Path
from sentryfw.config import plain
plain.is_used = True
from sentryfw.netfilter import ruleset
ruleset.directory = lambda: Path({directory!r})
from sentryfw.daemon.main import main
main()
"""


class Lab:
    """The two namespaces, and a directory for temporary files."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sentryfw-bench-", dir="/run"))
        self.victim = Namespace()
        self.attacker = Namespace()
        self._sockets: list[socket.socket] = []
        connect(self.victim, self.attacker, (WIRE, WIRE))
        self._address(self.victim, VICTIM, MACS["victim"], ATTACKER, MACS["attacker"])
        self._address(self.attacker, ATTACKER, MACS["attacker"], VICTIM, MACS["victim"])
        self.victim.ip("route", "add", "default", "via", ATTACKER)
        self.sysctl(self.victim, "net.ipv4.tcp_synack_retries", 0)
        self.sysctl(self.victim, "net.ipv4.conf.all.rp_filter", 0)
        self.nft(self.attacker, COUNT_ANSWERS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()
        self.attacker.close()
        self.victim.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _address(here: Namespace, own: str, mac: str, other: str, other_mac: str) -> None:
        here.ip("link", "set", WIRE, "address", mac)
        here.ip("address", "add", f"{own}/15", "dev", WIRE)
        here.ip("neigh", "replace", other, "lladdr", other_mac, "nud", "permanent", "dev", WIRE)

    def sysctl(self, here: Namespace, name: str, value: object) -> None:
        """Set a sysctl of one namespace."""
        path = Path("/proc/sys", *name.split("."))
        here.call(lambda: path.write_text(f"{value}\n"))

    def nft(self, here: Namespace, script: str) -> None:
        path = self.directory / "script.nft"
        path.write_text(script)
        done = here.run("nft", "-f", path)
        assert done.returncode == 0, done.stderr

    def listen(self, port: int = 80) -> None:
        """Open a listed port; the kernel finishes handshakes by itself."""
        listener = self.victim.call(
            lambda: socket.create_server((VICTIM, port), backlog=4096, reuse_port=True)
        )
        self._sockets.append(listener)

    # --- generators

    def frames(self, name: str, frames: Iterable[bytes]) -> Path:
        path = self.directory / f"{name}.frames"
        write_frames(path, frames)
        return path

    def send(self, frames: Path, *options: str | float | Path) -> dict[str, float]:
        """Send all frames; return {sent, seconds, errors}."""
        process = self.start_sending(frames, *options)
        return sent(process)

    def start_sending(
        self, frames: Path, *options: str | float | Path, cpu: int = FIRST_CPU
    ) -> subprocess.Popen[str]:
        words: list[str | Path] = ["taskset", "-c", str(cpu), BUILD / "send", WIRE, frames]
        words += map(str, options)
        return self.attacker.popen(words)

    # --- results

    def answers(self) -> int:
        """Return the number of SYN/ACKs that reached the attacker since the lab was made."""
        return counter(self.attacker, "answers", "synacks")

    def drops(self) -> int:
        """Return the number of frames that the defended host's interface dropped."""
        text = self.victim.run("cat", f"/sys/class/net/{WIRE}/statistics/rx_dropped").stdout
        return int(text or 0)


class Daemon:
    """A daemon on the defended host, with its own files."""

    def __init__(
        self,
        lab: Lab,
        config: str = "",
        *,
        cpu: int | None = None,
        rulesets: Path | None = None,
    ) -> None:
        self.lab = lab
        self.home = Path(tempfile.mkdtemp(prefix="daemon-", dir=lab.directory))
        self.config = self.home / "sentryfw.toml"
        paths = "".join(f'{name} = "{self.home / name}"\n' for name in ("state", "runtime", "log"))
        self.config.write_text(f"[paths]\n{paths}{config}\n")
        last_good.save(self.config, load_with_sources(self.config))  # as `sentryfw install` does
        self._command: list[str | Path] = [sys.executable, "-P", "-m", "sentryfw.daemon.main"]
        if rulesets is not None:
            self._command = [
                sys.executable,
                "-P",
                "-c",
                WITH_RULESETS.format(directory=str(rulesets)),
            ]
        if cpu is not None:
            self._command = ["taskset", "-c", str(cpu), *self._command]
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> float:
        """Start the daemon; return the seconds until it answered."""
        begin = time.monotonic()
        with (self.home / "stderr").open("a") as log:
            self.process = self.lab.victim.popen(
                [*self._command, "-c", self.config],
                stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": ""},
            )  # fmt: skip
        wait_for(self._answers, "sentryfwd answers", 120)
        return time.monotonic() - begin

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "stderr").read_text()[-2000:]
        try:
            return bool(self.status())
        except NotRunning:
            return False

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def ask(self, what: str) -> dict[str, Any]:
        return ask(self.home / "runtime" / "control.sock", {"do": what})

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def cli(self, *words: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [sys.executable, "-P", "-m", "sentryfw", "-c", self.config]
        command += words
        environment = {name: v for name, v in os.environ.items() if name not in NOT_OPERATORS}
        done = self.lab.victim.run(*command, timeout=timeout, env=environment)
        assert done.returncode == 0, done.stderr
        return done

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


class Watcher:
    """Records every change in the defended host's nftables with its time (bench/c/watch.c)."""

    def __init__(self, lab: Lab) -> None:
        descriptor, name = tempfile.mkstemp(dir=lab.directory)
        os.close(descriptor)
        self._path = Path(name)
        self._process = lab.victim.popen([BUILD / "watch", self._path])
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def first(self, sources: Iterable[str]) -> dict[str, int]:
        """Return when a change first named each source (CLOCK_MONOTONIC, ns)."""
        return first_changes(self._path.read_bytes(), sources)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(5)


def first_changes(data: bytes, sources: Iterable[str]) -> dict[str, int]:
    """Return when the changes that bench/c/watch.c recorded first named each source (ns).

    A source counts as the value of an attribute of its size: without that, 11.0.2.0 is found in
    every change of block4, where the header of a name of seven bytes has the same four bytes.
    """
    header = struct.pack("=HH", 8, NFTA_DATA_VALUE)
    wanted = {header + socket.inet_aton(source): source for source in sources}
    found: dict[str, int] = {}
    offset = 0
    while offset + 12 <= len(data):
        at, size = struct.unpack_from("=QI", data, offset)
        part = data[offset + 12 : offset + 12 + size]
        offset += 12 + size
        for position in range(0, len(part) - 7, 4):  # attributes are aligned
            source = wanted.get(part[position : position + 8])
            if source is not None:
                found.setdefault(source, at)
    return found


def sent(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a generator's end; return its report."""
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return dict(json.loads(output))


def stop_sending(process: subprocess.Popen[str]) -> dict[str, float]:
    process.send_signal(signal.SIGTERM)
    return sent(process)


def counter(here: Namespace, table: str, name: str) -> int:
    done = here.run("nft", "-j", "list", "counter", "inet", table, name)
    assert done.returncode == 0, done.stderr
    [found] = [item["counter"] for item in json.loads(done.stdout)["nftables"] if "counter" in item]
    return int(found["packets"])


def wait_for(condition: Callable[[], T], what: str, seconds: float = WAIT_TIMEOUT_S) -> T:
    """Return the first true value of a condition. Raise AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def in_child(namespace: Namespace, module: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Run `python -m MODULE ARGUMENTS` inside a namespace; return the JSON that it prints."""
    words: Sequence[str] = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    done = namespace.run(*words, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
