"""A pair of firewalls behind one address that keepalived moves: failover under a scan. The link and
a real redis-server carry their entries."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Final

import pytest

from sentryfw.control.client import ask
from sentryfw.record import learnt
from sentryfw.record.ledger import Ledger
from sentryfw.tools.drill.namespace import Namespace, add_address
from support.fleet_lab import Firewall, FleetLab
from support.waiting import wait_for

pytestmark = pytest.mark.netns

SHARED: Final = "203.0.113.100"
"""The address that clients use; keepalived has it on one of both."""
OWN: Final = {"fw1": "203.0.113.1", "fw2": "203.0.113.2"}
CLIENT: Final = "203.0.113.50"
SCANNERS: Final = [f"203.0.113.{number}" for number in range(151, 171)]
SERVICE: Final = 8022
UNLISTED: Final = (7001, 7002, 7003, 7004)
SWEEP_S: Final = 40.0
"""Seconds until what the rules have learnt is there: twice as many as between two sweeps."""
VRRP: Final = """
global_defs {{
    vrrp_garp_master_delay 1
    script_user root
}}
vrrp_instance shared {{
    state BACKUP
    interface wire0
    virtual_router_id 51
    priority {priority}
    advert_int 0.1
    version 3
    virtual_ipaddress {{
        {shared}/24
    }}
}}
"""


class Half:
    """One of two firewalls, with keepalived and a service."""

    def __init__(self, firewall: Firewall) -> None:
        self.box = firewall.box
        self.keepalived: Popen[str] | None = None

    def stop(self) -> None:
        """End keepalived."""
        if self.keepalived is not None:
            self.keepalived.terminate()
            self.keepalived.wait()

    def start_vrrp(self, priority: int) -> None:
        home = self.box.home
        config = home / "keepalived.conf"
        config.write_text(VRRP.format(priority=priority, shared=SHARED))
        self.keepalived = self.box.namespace.popen(
            ["keepalived", "-n", "-P", "-f", config, "-p", home / "k.pid", "-r", home / "v.pid"],
            stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip

    @property
    def is_active(self) -> bool:
        """Whether the shared address is here."""
        return f" {SHARED}/24 " in self.box.namespace.ip("-4", "addr", "show", "dev", "wire0")

    def blocked(self) -> set[str]:
        """Return the sources that this half drops, by its own finding or by the other one's."""
        return {*self.box.elements("block4"), *self.box.elements("fleet4")}


class Site:
    """Two halves, their hub, and a network of clients on one bridge."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self.world = stack.enter_context(Namespace())
        self.world.ip("link", "add", "lan", "type", "bridge")
        self.world.ip("link", "set", "lan", "up")
        add_address(self.world, "lan", f"{CLIENT}/24")
        for address in SCANNERS:
            add_address(self.world, "lan", f"{address}/32")
        lab = FleetLab(home, tuple(OWN))
        self.halves = {name: Half(firewall) for name, firewall in lab.firewalls.items()}
        for name, half in self.halves.items():
            self._wire(half, name)
        stack.enter_context(lab)
        one, two = self.halves.values()
        for half in (one, two):
            self._listen(stack, half)
            stack.callback(half.stop)
        one.start_vrrp(200)
        wait_for(lambda: one.is_active, "fw1 has the shared address", 20)
        two.start_vrrp(100)

    def _wire(self, half: Half, name: str) -> None:
        inside = half.box.namespace
        inside.ip("link", "add", "wire0", "type", "veth", "peer", "name", name)
        inside.ip("link", "set", name, "netns", str(self.world.pid))
        self.world.ip("link", "set", name, "master", "lan", "up")
        inside.ip("link", "set", "wire0", "up")
        add_address(inside, "wire0", f"{OWN[name]}/24")

    def _listen(self, stack: ExitStack, half: Half) -> None:
        def make() -> socket.socket:
            listener = socket.create_server(("0.0.0.0", SERVICE), backlog=64)  # noqa: S104
            listener.setblocking(False)
            return listener

        stack.callback(half.box.inside(make).close)

    def connects(self, source: str, port: int = SERVICE, timeout: float = 2.0) -> bool:
        """Return whether a source reaches a port of the shared address."""

        def connect() -> bool:
            with socket.socket() as client:
                client.bind((source, 0))
                client.settimeout(timeout)
                try:
                    client.connect((SHARED, port))
                except OSError:
                    return False
                return True

        return self.world.call(connect)

    def scan(self, source: str) -> None:
        """Try unlisted ports without waiting for an answer."""

        def probe() -> None:
            for port in UNLISTED:
                with socket.socket() as client:
                    client.bind((source, 0))
                    client.setblocking(False)
                    client.connect_ex((SHARED, port))
                    time.sleep(0.002)

        self.world.call(probe)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for program in ("keepalived", "redis-server"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    with ExitStack() as stack:
        yield Site(stack, tmp_path)


def test_a_failover_in_the_middle_of_a_scan_loses_no_block_and_no_client(site: Site) -> None:
    one, two = site.halves.values()
    assert site.connects(CLIENT)
    before, after = SCANNERS[:10], SCANNERS[10:]
    for source in before:
        site.scan(source)
        wait_for(lambda source=source: source in one.blocked(), f"fw1 has blocked {source}")
    acknowledged = one.blocked()
    assert acknowledged == set(before)
    wait_for(lambda: two.blocked() == acknowledged, "the standby has them from the hub")

    site.scan(after[0])  # the active half goes while this one scans
    assert one.keepalived is not None
    one.keepalived.kill()
    one.keepalived.wait()
    one.box.namespace.ip("link", "set", "wire0", "down")
    wait_for(lambda: two.is_active, "fw2 has taken the address", 20)
    wait_for(lambda: site.connects(CLIENT), "the client is served by fw2", 20)
    assert acknowledged <= two.blocked()
    assert not any(site.connects(source, timeout=0.2) for source in before)
    for source in after:
        site.scan(source)
        wait_for(lambda source=source: source in two.blocked(), f"fw2 has blocked {source}")
    assert CLIENT not in two.blocked()
    assert site.connects(CLIENT)


def test_partners_networks_permanents_and_ends_go_both_ways(site: Site) -> None:
    one, two = site.halves.values()
    assert site.connects(CLIENT)
    assert CLIENT in one.box.elements("partner4"), "the client is a partner of the active half"
    ask(one.box.settings.paths.control, {"do": "reconcile"})
    wait_for(lambda: _is_saved(one), "what was learnt is in the ledger")
    _by_hand(one, "block", "198.51.100.0/24")
    _by_hand(one, "block", "192.0.2.7", "--timeout", "forever")
    wait_for(
        lambda: CLIENT in two.box.elements("partner4"), "the standby knows the client", SWEEP_S
    )
    wait_for(lambda: _serves(two, CLIENT), "and what it is served", SWEEP_S)
    wait_for(lambda: "192.0.2.7" in two.box.elements("fleet4"), "the last block is there")
    assert [*two.box.elements("fleet_net4")] == ["198.51.100.0/24"]
    assert two.box.elements("fleet4")["192.0.2.7"].get("timeout") is None, "without an end"
    listed = json.loads(two.box.sentryfw("list", "--json").stdout)
    assert {(row["address"], row["member"]) for row in listed} == {
        ("198.51.100.0/24", "fw1"), ("192.0.2.7", "fw1"),
    }  # fmt: skip

    # Its own end is a withdraw; one by hand on the standby ends the block of the active half.
    _by_hand(one, "unblock", "198.51.100.0/24")
    _by_hand(two, "unblock", "192.0.2.7")
    assert not two.box.elements("fleet4"), "it is local at once"
    wait_for(lambda: not one.box.elements("block4"), "and ends at the half that made it")
    wait_for(lambda: not two.box.elements("fleet_net4"), "its own end is here")
    _by_hand(one, "block", "198.51.100.0/25")
    wait_for(lambda: two.box.elements("fleet_net4"), "the smaller network is there")
    _by_hand(two, "unblock", "198.51.100.0/24")
    assert not two.box.elements("fleet_net4")
    wait_for(lambda: not one.box.elements("block_net4"), "and ends at the half that made it")


def test_a_scanner_that_the_active_half_blocked_stays_blocked_where_the_table_was_flushed(
    site: Site,
) -> None:
    one, two = site.halves.values()
    site.scan(SCANNERS[0])
    wait_for(lambda: SCANNERS[0] in one.blocked(), "fw1 has blocked it")
    wait_for(lambda: SCANNERS[0] in two.blocked(), "the standby has it")
    two.box.nft("delete table inet sentryfw")
    wait_for(lambda: _has_table(two), "the daemon has repaired the table", 20)
    wait_for(lambda: SCANNERS[0] in two.blocked(), "with what the pair blocks", 20)


def _by_hand(half: Half, *words: str) -> None:
    done = half.box.sentryfw(*words)
    assert done.returncode == 0, done.stderr


def _is_saved(half: Half) -> bool:
    with Ledger(half.box.settings.paths.ledger) as ledger:
        return any(True for _ in learnt.active(ledger, "served4", time.time()))


def _serves(half: Half, client: str) -> bool:
    listed = half.box.nft("list", "set", "inet", "sentryfw", "served4")
    return f"{client} . {SHARED} . tcp . {SERVICE}" in listed


def _has_table(half: Half) -> bool:
    done = half.box.namespace.run("nft", "list", "set", "inet", "sentryfw", "fleet4")
    return done.returncode == 0
