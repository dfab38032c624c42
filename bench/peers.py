"""Systems that are measured: SentryFW, its peers, a pure nft ruleset, and no firewall.

Each runs on the defended host of a lab from start to close. Debian's peers run on a file
system and in a process namespace of their own (bench/peers/enter.sh), each as its own
documentation recommends: bench/peers/NAME/.
"""

import subprocess
import time
from typing import Final, Self

from bench.build import PEERS, ROOT
from bench.frames import syn
from bench.lab import Daemon, Lab, Watcher

US: Final = "SentryFW"
NFT: Final = "pure nft"
NONE: Final = "no firewall"
NFQ: Final = "C NFQUEUE"
PROGRAMS: Final = ("portsentry", "psad", "fail2ban")

TRIGGERS: Final = {US: 3, "portsentry": 1, "psad": 5, "fail2ban": 7, NFT: 1, NONE: 1}
"""Probes to different unlisted ports below 1024 that make a scan in each system's configuration."""
UNLISTED: Final = (1, 7, 9, 11, 13, 15, 17)
CANARY: Final = 0x0A000001
MAX_ATTEMPTS: Final = 16
BLOCK_TIMEOUT_S: Final = 2.0


class Defence:
    """The system that defends a host."""

    def __init__(self, lab: Lab, name: str, config: str = "") -> None:
        self.name = name
        self.trigger = TRIGGERS[name]
        self._daemon: Daemon | None = None
        self._process: subprocess.Popen[str] | None = None
        self._lab = lab
        if name == US:
            self._daemon = Daemon(lab, config)
        elif name == NFT:
            lab.nft(lab.victim, (PEERS / "nft" / "block.nft").read_text())
        elif name in PROGRAMS:
            self._process = self._launch(lab)
            self._prove(lab)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._lab.victim.run("nft", "flush", "ruleset")

    def _launch(self, lab: Lab) -> subprocess.Popen[str]:
        with (lab.directory / f"{self.name}.log").open("w") as log:
            return lab.victim.popen(inside(self.name, "/start.sh"), stdout=log, stderr=log)

    def _prove(self, lab: Lab) -> None:
        """Scan from canary addresses until one is blocked: then the peer is ready."""
        watcher = Watcher(lab)
        canaries = [CANARY + attempt for attempt in range(MAX_ATTEMPTS)]
        names = [text(canary) for canary in canaries]
        try:
            for canary in canaries:
                probes = [syn(canary, port) for port in UNLISTED]
                lab.send(lab.frames("canary", probes), "--rate", 50)
                end = time.monotonic() + BLOCK_TIMEOUT_S
                while time.monotonic() < end:
                    if watcher.first(names):
                        return
                    time.sleep(0.05)
                assert self._process is not None
                assert self._process.poll() is None, self.log(lab)
        finally:
            watcher.close()
        raise AssertionError(f"{self.name} blocks nothing: {self.log(lab)}")

    def log(self, lab: Lab) -> str:
        return (lab.directory / f"{self.name}.log").read_text()[-2000:]


def inside(layer: str, *command: str) -> list[str]:
    """Return the command line that runs a command on the peer's own file system."""
    return [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        str(PEERS / "enter.sh"), str(ROOT), str(PEERS / layer), *command,
    ]  # fmt: skip


def text(source: int) -> str:
    return ".".join(map(str, source.to_bytes(4)))
