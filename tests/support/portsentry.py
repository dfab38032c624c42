"""A PortSentry administrator moves over: a portsentry.conf in, a running SentryFW out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.imported import Imported
from sentryfw.tools.portsentry.render import render
from support.lab import Lab, Sentry
from support.waiting import wait_for

SYSTEM_TESTS: Final = {
    "001": ("Connect TCP", "blocks; the datagrams that follow are dropped in the kernel"),
    "002": ("Connect UDP", "blocks; the connection that follows is dropped in the kernel"),
    "003": ("Banner TCP", "banner received, at once; block"),
    "004": ("Banner UDP", "banner received; block"),
    "005": ("BLOCK=0 TCP", "reported once a minute and source, not per packet; nothing is dropped"),
    "006": ("BLOCK=0 UDP", "the same"),
    "007": ("BLOCK=2 TCP", "the command got address and port; no block"),
    "008": ("BLOCK=2 UDP", "the same"),
    "009": ("Scan trigger", "hit 1: nothing; hit 2: block; hit 3: dropped in the kernel"),
    "010": ("Route kill", "a program in KILL_ROUTE is run in addition to the block"),
    "011": ("Kill then command", "the block is in the kernel when the command runs"),
    "012": (
        "Command then kill",
        "the command is started with the block, which does not wait for it",
    ),
    "013": ("Route + hosts.deny", "blackhole route and hosts.deny line; both go with the block"),
    "014": ("Stealth pcap TCP", "block"),
    "015": ("Stealth pcap UDP", "block"),
    "016": ("Self ignore", "own addresses and loopback are never judged"),
    "018": ("SYN", "nmap -sS: block, TCP SYN/Normal scan"),
    "019": ("NULL", "nmap -sN: block, TCP NULL scan"),
    "020": ("XMAS", "nmap -sX: block, TCP XMAS scan"),
    "021": ("FIN", "nmap -sF: block, TCP FIN scan"),
    "023": ("Port ranges connect", "the ports of the range and no other"),
    "024": ("Port ranges pcap", "the ports of the range and no other"),
    "025": ("Invalid probe pcap", "a port that is not watched: nothing"),
    "026": ("Invalid probe connect", "a port that is not watched: nothing"),
    "027": ("Invalid probe raw", "a port that is not watched: nothing"),
    "028": ("IPv6 connect", "block of the /64"),
    "029": ("IPv6 pcap", "block of the /64"),
    "030": ("IPv6 raw", "block of the /64"),
    "031": ("Ignore file v4 /32", "never judged, never blocked"),
    "032": ("Ignore file v4, no mask", "never judged, never blocked"),
    "033": ("Ignore file v6 /128", "never judged, never blocked"),
    "034": ("Ignore file v6, no mask", "never judged, never blocked"),
    "100": ("Raw TCP", "block"),
    "101": ("Port ranges raw", "the ports of the range and no other"),
}
"""PortSentry 2.x's system tests: number -> name, assertion here."""

CONF: Final = """\
# PortSentry 2.0
TCP_PORTS="1,11"
UDP_PORTS="1,11"
IGNORE_FILE="/etc/portsentry/portsentry.ignore"
HISTORY_FILE="{home}/portsentry.history"
BLOCKED_FILE="{home}/portsentry.blocked"
"""
BLOCK: Final = 'BLOCK_TCP="1"\nBLOCK_UDP="1"\n'
"""PortSentry 2.x also needs KILL_ROUTE or KILL_HOSTS_DENY; here nft replaces them."""

Start = Callable[[str], Sentry]


class Moved(NamedTuple):
    """The administrator's host after the import."""

    daemon: Sentry
    imported: Imported
    home: Path

    @property
    def deny(self) -> Path:
        return self.home / "hosts.deny"

    @property
    def told(self) -> Path:
        """Return the lines that the script of told_by() wrote."""
        return self.home / "told"

    def history(self) -> list[str]:
        path = self.home / "portsentry.history"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_history(self, count: int) -> list[str]:
        """Wait for `count` lines; assert that there are not more."""
        wait_for(lambda: len(self.history()) >= count, f"{count} lines of history")
        lines = self.history()
        assert len(lines) == count, lines
        return lines


def move(
    start: Start, home: Path, conf: str, *, mode: str, ignore: str | bytes = "", more: str = ""
) -> Moved:
    """Import and start. `more`: TOML that the administrator adds."""
    etc = home / "etc/portsentry"
    etc.mkdir(parents=True)
    (etc / "portsentry.conf").write_text(CONF.format(home=home) + conf)
    data = ignore.encode() if isinstance(ignore, str) else ignore
    (etc / "portsentry.ignore").write_bytes(data)
    imported = convert(collect(etc), mode, mode)
    return Moved(start(elsewhere(render(imported), home) + more), imported, home)


def elsewhere(toml: str, home: Path) -> str:
    """Return the configuration with a hosts.deny below `home`, not the machine's."""
    own = json.dumps(str(home / "hosts.deny"))
    return toml.replace("[respond.hosts_deny]\n", f"[respond.hosts_deny]\npath = {own}\n")


def told_by(lab: Lab, home: Path) -> str:
    """Return a script that records its arguments, and whether the first one is blocked then."""
    script = home / "tell"
    script.write_text(
        "#!/bin/sh\n"
        'nft get element inet sentryfw block4 "{ $1 }" >/dev/null 2>&1 && is=blocked || is=free\n'
        f'echo "$* $is" >> {home / "told"}\n'
    )
    script.chmod(0o755)
    return str(script)
