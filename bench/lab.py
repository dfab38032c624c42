"""Two hosts on a wire of the bench: one is defended, the other attacks.

Sources are forged: the defended host answers all of them to the attacker's end of the wire,
where nftables counts the answers and ends them.
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
from sentryfw.control import ask
from sentryfw.errors import NotRunning
from sentryfw.netns import Namespace, connect

T = TypeVar("T")

WIRE: Final = "bench0"
VICTIM: Final = "198.18.0.1"
ATTACKER: Final = "198.18.0.2"
MACS: Final = {"victim": "02:53:46:57:42:01", "attacker": "02:53:46:57:42:02"}
"""The mark that bench/c/guard.c looks for."""
PATIENCE: Final = 30.0
FIRST_CPU: Final = 0
LAST_CPU: Final = (os.cpu_count() or 1) - 1

NOT_OPERATORS: Final = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
"""What a container or a build may set, and no operator: modules are compiled at each start then."""

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
from sentryfw.netfilter import ruleset
ruleset.directory = lambda: Path({directory!r})
from sentryfw.daemon import main
main()
"""


class Lab:
    """The two namespaces, and a directory for what the bench needs meanwhile."""

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
        """A setting of that namespace only."""
        path = Path("/proc/sys", *name.split("."))
        here.call(lambda: path.write_text(f"{value}\n"))

    def nft(self, here: Namespace, script: str) -> None:
        path = self.directory / "script.nft"
        path.write_text(script)
        done = here.run("nft", "-f", path)
        assert done.returncode == 0, done.stderr

    def listen(self, port: int = 80) -> None:
        """A listed port: the kernel finishes handshakes without a program's help."""
        listener = self.victim.call(
            lambda: socket.create_server((VICTIM, port), backlog=4096, reuse_port=True)
        )
        self._sockets.append(listener)

    # --- generators

    def frames(self, name: str, frames: Iterable[bytes]) -> Path:
        path = self.directory / f"{name}.frames"
        write_frames(path, frames)
        return path

    def send(self, frames: Path, *options: str | int | Path) -> dict[str, float]:
        """Send to the end; {sent, seconds, errors}."""
        process = self.start_sending(frames, *options)
        return sent(process)

    def start_sending(
        self, frames: Path, *options: str | int | Path, cpu: int = FIRST_CPU
    ) -> subprocess.Popen[str]:
        words = ["taskset", "-c", str(cpu), BUILD / "send", WIRE, frames, *map(str, options)]
        return self.attacker.popen(words)

    # --- what came of it

    def answers(self) -> int:
        """SYN/ACKs that reached the attacker since the lab was made."""
        return counter(self.attacker, "answers", "synacks")

    def drops(self) -> int:
        """Frames that the defended host's end of the wire had no room for."""
        text = self.victim.run("cat", f"/sys/class/net/{WIRE}/statistics/rx_dropped").stdout
        return int(text or 0)


class Daemon:
    """Our daemon on the defended host, with files of its own."""

    def __init__(
        self,
        lab: Lab,
        settings: str = "",
        *,
        cpu: int | None = None,
        rulesets: Path | None = None,
    ) -> None:
        self.lab = lab
        self.home = Path(tempfile.mkdtemp(prefix="daemon-", dir=lab.directory))
        self.config = self.home / "sentryfw.toml"
        paths = "".join(f'{name} = "{self.home / name}"\n' for name in ("state", "runtime", "log"))
        self.config.write_text(f"[paths]\n{paths}{settings}\n")
        self._command: list[str | Path] = [sys.executable, "-m", "sentryfw.daemon"]
        if rulesets is not None:
            self._command = [sys.executable, "-c", WITH_RULESETS.format(directory=str(rulesets))]
        if cpu is not None:
            self._command = ["taskset", "-c", str(cpu), *self._command]
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> float:
        """Start it; seconds until it answered."""
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
        command = [sys.executable, "-m", "sentryfw", "-c", self.config, *words]
        environment = {name: v for name, v in os.environ.items() if name not in NOT_OPERATORS}
        done = self.lab.victim.run(*command, timeout=timeout, env=environment)
        assert done.returncode == 0, done.stderr
        return done

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


class Watcher:
    """Every change in the defended host's nftables, with its moment (bench/c/watch.c)."""

    def __init__(self, lab: Lab) -> None:
        descriptor, name = tempfile.mkstemp(dir=lab.directory)
        os.close(descriptor)
        self._path = Path(name)
        self._process = lab.victim.popen([BUILD / "watch", self._path])
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def first(self, sources: Iterable[str]) -> dict[str, int]:
        """The moment (CLOCK_MONOTONIC, ns) at which a change first named each source."""
        data = self._path.read_bytes()
        wanted = {socket.inet_aton(source): source for source in sources}
        found: dict[str, int] = {}
        offset = 0
        while offset + 12 <= len(data):
            at, size = struct.unpack_from("=QI", data, offset)
            part = data[offset + 12 : offset + 12 + size]
            offset += 12 + size
            for position in range(0, len(part) - 3, 4):  # attributes are aligned
                source = wanted.get(part[position : position + 4])
                if source is not None:
                    found.setdefault(source, at)
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(5)


def sent(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a generator says at its end."""
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


def wait_for(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true value of a condition. AssertionError if there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def in_child(namespace: Namespace, module: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
    """What `python -m MODULE ARGUMENTS` prints as JSON, run inside a namespace."""
    words: Sequence[str] = [sys.executable, "-m", module, *map(str, arguments)]
    done = namespace.run(*words, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
