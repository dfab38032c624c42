"""Firewalls and blockers that SentryFW runs beside: how each is set up, what it lets
through and what it refuses, and how it reloads.

Each lets ACCEPTED in and refuses REFUSED, though something listens on both.
"""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sentryfw.tools.drill.namespace import add_address
from support.guest import Guest
from support.lab import BYSTANDER, INTERFACE, LISTED, PREFIX, Lab
from support.router import BEHIND, LAN, PUBLISHED, SERVICE
from support.waiting import wait_for

ACCEPTED: Final = LISTED
REFUSED: Final = 8025
RULESETS: Final = Path(__file__).resolve().parent.parent / "golden" / "neighbours"
BANNED: Final = {4: "198.18.0.9", 6: "2001:2:0:9::9"}
"""Addresses of the attacker's host that blockers block."""
IPTABLES: Final = (
    "iptables", "libip4tc2", "libip6tc2", "libxtables12", "libnetfilter-conntrack3", "libmnl0",
    "libnfnetlink0", "libnftnl11", "netbase",
)  # fmt: skip


class Host(NamedTuple):
    """Place of a neighbour: a namespace with its own files."""

    lab: Lab
    guest: Guest

    def theirs(self) -> str:
        """Return the other tables of nftables, without counts and times."""
        listing = self.lab.nft("-s", "list", "ruleset")
        return re.sub(
            r"^table inet sentryfw \{\n.*?^\}\n", "", listing, flags=re.MULTILINE | re.DOTALL
        )


Step = Callable[[Host], None]


class Neighbour(NamedTuple):
    """One of them. `sources`: by IP version, the address that is refused at `refused`."""

    name: str
    packages: tuple[str, ...]
    start: Step
    reload: Step
    refused: int = REFUSED
    sources: dict[int, str] = BYSTANDER
    published: bool = False
    """Whether it publishes a port of a host behind."""


# --- nftables.service


def _unit(host: Host, key: str) -> list[str]:
    """The command of nftables.service for ExecStart= or ExecReload=."""
    place = Path("/lib/systemd/system/nftables.service")
    if not place.exists():
        pytest.skip("the package nftables has no nftables.service here")
    [line] = [x for x in place.read_text().splitlines() if x.startswith(f"{key}=")]
    return line.partition("=")[2].split()


def _start_nftables(host: Host) -> None:
    text = (RULESETS / "nftables.conf").read_text()
    assert "flush ruleset" in text
    host.guest.write("/etc/nftables.conf", text)
    host.guest.run(*_unit(host, "ExecStart"))


def _reload_nftables(host: Host) -> None:
    host.guest.run(*_unit(host, "ExecReload"))


# --- rulesets of appliances, replayed


def _replay(name: str) -> Step:
    def load(host: Host) -> None:
        host.lab.nft("-f", str(RULESETS / name))

    return load


# --- firewalld


FIREWALLD: Final = (
    "firewalld", "python3-firewall", "python3-nftables", "dbus-daemon", "dbus-bin",
    "dbus-system-bus-common", "dbus-session-bus-common", "libdbus-1-3", "python3-dbus",
    "python3-gi", "gir1.2-glib-2.0", "libgirepository-1.0-1", "libglib2.0-0", "python3-cap-ng",
    "libcap-ng0", "libapparmor1",
)  # fmt: skip


def _start_firewalld(host: Host) -> None:
    guest = host.guest
    users = (guest.root / "etc/passwd").read_text()
    if "messagebus:" not in users:
        guest.write("/etc/passwd", users + "messagebus:x:899:899::/nonexistent:/bin/false\n")
        groups = (guest.root / "etc/group").read_text()
        guest.write("/etc/group", groups + "messagebus:x:899:\n")
    (guest.root / "run/dbus").mkdir(parents=True, exist_ok=True)
    guest.start("dbus-daemon", "--system", "--nofork", "--nopidfile")
    bus = guest.root / "run/dbus/system_bus_socket"
    wait_for(bus.exists, "the bus")
    guest.run("firewall-offline-cmd", f"--add-port={ACCEPTED}/tcp")
    daemon = guest.start("firewalld", "--nofork")

    def is_loaded() -> bool:
        assert daemon.poll() is None, guest.log("firewalld")
        return f"tcp dport {ACCEPTED}" in host.theirs()

    wait_for(is_loaded, "firewalld's rules", 30)


def _reload_firewalld(host: Host) -> None:
    """Send SIGHUP; a new rule shows that it was handled."""
    guest = host.guest
    before = host.theirs()
    guest.run("firewall-offline-cmd", "--add-port=9999/tcp")
    _hang_up(guest)
    wait_for(lambda: "tcp dport 9999" in host.theirs(), "firewalld's new rules", 30)
    guest.run("firewall-offline-cmd", "--remove-port=9999/tcp")
    _hang_up(guest)
    wait_for(lambda: host.theirs() == before, "firewalld's old rules", 30)


def _hang_up(guest: Guest) -> None:
    pid = (guest.root / "run/firewalld.pid").read_text().strip()
    guest.run("sh", "-c", f"kill -HUP {pid}")


# --- ufw, and what else uses iptables


def _link_iptables(guest: Guest) -> None:
    """Link the commands as update-alternatives(1) does when the packages are installed."""
    for family in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            link = guest.root / "usr/sbin" / f"{family}{suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{family}-nft{suffix}")


def _start_ufw(host: Host) -> None:
    guest = host.guest
    _link_iptables(guest)
    # What its postinst does.
    guest.run("sh", "-ec", "cp /usr/share/ufw/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf"
                           " /etc/ufw; cp /usr/share/ufw/iptables/user*.rules /etc/ufw;"
                           " chmod 640 /etc/ufw/*.rules")  # fmt: skip
    guest.run("ufw", "--force", "enable")
    guest.run("ufw", "allow", f"{ACCEPTED}/tcp")
    guest.run("ufw", "deny", f"{REFUSED}/tcp")
    guest.run("ufw", "reload")  # it puts its chains in another order than the first time


def _reload_ufw(host: Host) -> None:
    assert "reloaded" in host.guest.run("ufw", "reload")


def _start_docker(host: Host) -> None:
    _link_iptables(host.guest)
    _reload_docker(host)


def _reload_docker(host: Host) -> None:
    """Restart dockerd, which makes its rules again."""
    for program, family in (("iptables-restore", 4), ("ip6tables-restore", 6)):
        text = (RULESETS / "docker.rules").read_text().format(
            lan=LAN, behind=BEHIND[family], to=_bracketed(BEHIND[family]), service=SERVICE,
            published=PUBLISHED, refused=REFUSED,
        )  # fmt: skip
        host.guest.write("/root/docker.rules", text)
        host.guest.run(program, "/root/docker.rules")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# --- fail2ban


JAIL: Final = f"""
[DEFAULT]
banaction = nftables[type=multiport]
allowipv6 = auto
[lab]
enabled = true
filter = lab
port = {ACCEPTED}
logpath = /root/lab.log
backend = polling
bantime = 1h
"""


def _start_fail2ban(host: Host) -> None:
    _ban_addresses(host.lab)
    guest = host.guest
    for place in (guest.root / "etc/fail2ban/jail.d").glob("*"):
        place.unlink()
    guest.write("/etc/fail2ban/jail.d/lab.local", JAIL)
    guest.write("/etc/fail2ban/filter.d/lab.conf", "[Definition]\nfailregex = ^no <HOST>$\n")
    guest.write("/root/lab.log", "")
    (guest.root / "run/fail2ban").mkdir(exist_ok=True)
    server = guest.start("fail2ban-server", "-f")

    def answers() -> bool:
        assert server.poll() is None, guest.log("fail2ban-server")
        return guest.attempt("fail2ban-client", "status", "lab").returncode == 0

    wait_for(answers, "fail2ban", 20)
    guest.run("fail2ban-client", "set", "lab", "banip", *BANNED.values())
    wait_for(lambda: BANNED[4] in host.theirs() and BANNED[6] in host.theirs(), "its bans")


def _reload_fail2ban(host: Host) -> None:
    host.guest.run("fail2ban-client", "reload")
    wait_for(lambda: BANNED[4] in host.theirs() and BANNED[6] in host.theirs(), "its bans")


# --- CrowdSec's bouncer


_BOUNCER: Final = "crowdsec-firewall-bouncer"
BOUNCER: Final = """
mode: nftables
pid_dir: /run/
update_frequency: 1s
daemonize: false
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:8080/
api_key: lab
disable_ipv6: false
deny_action: DROP
deny_log: false
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
nftables:
  ipv4: { enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain }
  ipv6: { enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain }
prometheus: { enabled: false }
"""


class _Decisions(BaseHTTPRequestHandler):
    """CrowdSec's local API for a bouncer: two decisions at first, then none."""

    def do_GET(self) -> None:
        bans = [
            {"id": n, "origin": "lab", "type": "ban", "scope": "Ip", "value": address,
             "duration": "4h0m0s", "scenario": "lab"}
            for n, address in enumerate(BANNED.values(), 1)
        ] if "startup=true" in self.path else None  # fmt: skip
        body = json.dumps({"new": bans, "deleted": None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Write nothing to the test's output."""


def _start_crowdsec(host: Host) -> None:
    _ban_addresses(host.lab)
    server = host.lab.victim.call(lambda: ThreadingHTTPServer(("127.0.0.1", 8080), _Decisions))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host.guest.write("/etc/crowdsec/bouncers/lab.yaml", BOUNCER)
    _start_bouncer(host)


def _start_bouncer(host: Host) -> None:
    bouncer = host.guest.start(_BOUNCER, "-c", "/etc/crowdsec/bouncers/lab.yaml")

    def has_banned() -> bool:
        said = host.guest.log(_BOUNCER)
        assert bouncer.poll() is None, said
        return "2 decisions added" in said and BANNED[6] in host.theirs()

    wait_for(has_banned, "the bouncer's bans", 20)


def _restart_crowdsec(host: Host) -> None:
    """It has no reload: systemd restarts it."""
    host.guest.run("sh", "-c", f"kill $(pidof {_BOUNCER})")
    wait_for(lambda: host.guest.attempt("pidof", _BOUNCER).returncode, "the bouncer has ended")
    _start_bouncer(host)


def _ban_addresses(lab: Lab) -> None:
    for family, address in BANNED.items():
        add_address(lab.attacker, INTERFACE, f"{address}/{PREFIX[family]}")


NEIGHBOURS: Final = (
    Neighbour("nftables.service", (), _start_nftables, _reload_nftables),
    Neighbour("firewalld", FIREWALLD, _start_firewalld, _reload_firewalld),
    Neighbour("ufw", ("ufw", *IPTABLES), _start_ufw, _reload_ufw),
    Neighbour("Docker", IPTABLES, _start_docker, _reload_docker, published=True),
    Neighbour("fail2ban", ("fail2ban",), _start_fail2ban, _reload_fail2ban, ACCEPTED, BANNED),
    Neighbour(
        "CrowdSec", (_BOUNCER,), _start_crowdsec, _restart_crowdsec, ACCEPTED,
        BANNED,
    ),
    Neighbour("OpenWrt fw4", (), _replay("fw4.nft"), _replay("fw4.nft"), published=True),
    Neighbour("VyOS", (), _replay("vyos.nft"), _replay("vyos.nft"), published=True),
)  # fmt: skip
