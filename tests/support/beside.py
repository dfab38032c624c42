"""Debian's portsentry 1.2 at work in a lab, and the scans that it and SentryFW are both shown.

It runs in mount and process namespaces of its own: its /etc, /dev and /var/lib are directories of
the test, so it can write to no file of the machine, and nothing of it outlives the test.
"""

import os
import re
import shlex
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final, NamedTuple, Self

from support.lab import INTERFACE, VICTIM, Lab
from support.waiting import wait_for

PORT: Final = 11
"""A port without a listener, below 1024: PortSentry's advanced modes watch it."""
CANARY: Final = 13

START: Final = """\
for place in etc dev var/lib; do mount --bind "$1/$place" "/$place" || exit; done
"$2" -atcp && "$2" -audp && exec sleep infinity
"""
NEEDED: Final = ("unshare", "mount", "route")
"""Programs; route is what Debian's KILL_ROUTE calls."""

NOTHING: Final = "nothing"
CONNECTIONS: Final = "connections"
EVERYTHING: Final = "everything"


class Shown(NamedTuple):
    """The result of a scan."""

    name: str
    """Name of the scan; "nothing": it was not noticed."""
    stopped: str
    """Traffic of the source that is stopped: everything, connections only, nothing."""


class Row(NamedTuple):
    """A scan of one port, and the result with each of the two."""

    options: str
    portsentry: Shown
    sentryfw: Shown
    family: int = 4


def _row(options: str, theirs: str, ours: str, family: int = 4) -> Row:
    stopped = NOTHING if theirs == NOTHING else CONNECTIONS
    return Row(options, Shown(theirs, stopped), Shown(ours, EVERYTHING), family)


ROWS: Final = (
    _row("-sS", "TCP SYN/Normal scan", "syn"),
    _row("-sT", "TCP SYN/Normal scan", "syn"),
    _row("-sF", "TCP FIN scan", "fin"),
    _row("-sN", "TCP NULL scan", "null"),
    _row("-sX", "TCP XMAS scan", "xmas"),
    _row("-sM", NOTHING, "maimon"),
    _row("-sA", NOTHING, "ack"),
    _row("-sU", "UDP scan", "udp"),
    _row(
        "-sS --scanflags SYNFIN",
        "Unknown Type: TCP Packet Flags: SYN: 1 FIN: 1 ACK: 0 PSH: 0 URG: 0 RST: 0",
        "synfin",
    ),
    _row("-sS -f", "TCP SYN/Normal scan", "syn"),
    _row("-6 -sS", NOTHING, "syn", 6),
)


def source(row: Row) -> str:
    """Return the scan's address; each scan has its own, since the one before is blocked."""
    number = 20 + ROWS.index(row)
    return f"198.18.0.{number}" if row.family == 4 else f"2001:2:0:{number}::2"


def scan(lab: Lab, row: Row) -> None:
    """Scan the one port with nmap."""
    words = ["nmap", "-n", "-Pn", "--max-retries", "0", "-S", source(row), "-e", INTERFACE]
    done = lab.attacker.run(*words, *shlex.split(row.options), "-p", str(PORT), VICTIM[row.family])
    assert done.returncode == 0, done.stderr


class PortSentry:
    """The daemon in its advanced modes, tcp and udp, on the victim."""

    def __init__(self, lab: Lab, root: Path) -> None:
        """`root`: the unpacked package with its configuration."""
        self._lab = lab
        self._program = root / "usr/sbin/portsentry"
        # Not pytest's: the path of a UNIX socket has room for 107 bytes.
        self._home = Path(tempfile.mkdtemp(prefix="portsentry-"))
        shutil.copytree(root / "etc/portsentry", self._home / "etc/portsentry")
        static = (self._home / "etc/portsentry/portsentry.ignore.static").read_text()
        (self._home / "etc/portsentry/portsentry.ignore").write_text(static)
        self.deny = self._home / "etc/hosts.deny"
        self.deny.touch()
        (self._home / "etc/nsswitch.conf").write_text("hosts: files\n")
        (self._home / "var/lib/portsentry").mkdir(parents=True)
        (self._home / "dev").mkdir()
        os.mknod(self._home / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._syslog.bind(str(self._home / "dev/log"))
        self._syslog.setblocking(False)
        self._said: list[str] = []

    def __enter__(self) -> Self:
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
        words += ["sh", "-c", START, "sh", str(self._home), str(self._program)]
        self._process = self._lab.victim.popen(words)
        try:
            wait_for(self._is_ready, "both of its processes listen", 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()  # ends when the last process that holds the pipes has ended
        self._syslog.close()
        shutil.rmtree(self._home)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._process.communicate()
        return sum("is now active and listening" in line for line in self.said()) == 2

    def said(self) -> list[str]:
        """Return its messages to syslog."""
        while True:
            try:
                self._said.append(self._syslog.recv(1 << 16).decode())
            except BlockingIOError:
                return self._said

    def name_of(self, address: str) -> str:
        """Return the name it gave the scan of a source; "" if it reported none."""
        pattern = re.compile(rf"attackalert: +(.*) from host: {address}/{address} to \w+ port: ")
        found = (pattern.search(line) for line in self.said())
        return next((match[1] for match in found if match), "")

    def has_blocked(self, address: str) -> bool:
        """Return whether it reports that it blocked the address."""
        return any(f"Host {address} has been blocked via dropped route" in s for s in self.said())
