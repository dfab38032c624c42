"""Interfaces: named, by patterns, appearing later, several at once, VLANs and bridges."""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.errors import SentryError
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.frames import tcp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
SECOND: Final = {"victim": "198.18.32.1", "attacker": "198.18.32.2"}
"""Addresses at both ends of a second wire."""
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
TUNSETIFF: Final = 0x400454CA
ETHER: Final = 14
"""Bytes of an Ethernet header, which a tunnel lacks."""


def _second_wire(lab: Lab, ours: str, theirs: str = "up1") -> None:
    connect(lab.victim, lab.attacker, (ours, theirs))
    add_address(lab.victim, ours, f"{SECOND['victim']}/24")
    add_address(lab.attacker, theirs, f"{SECOND['attacker']}/24")


def _knock(host: Namespace, address: str, *ports: int) -> None:
    """Send one datagram to each port, by the host's routes."""
    words = " ".join(f"echo >/dev/udp/{address}/{port};" for port in ports)
    done = host.run("bash", "-c", words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("interfaces", "wire", "is_watched"),
    [
        ('["up0"]', "up0", True),
        ('["up0"]', "up00", False),
        ('["ppp*", "up*"]', "up7", True),
        ('["up*"]', "dn7", False),
        ("[]", "up7", True),
    ],
    ids=["named", "longer-than-named", "pattern", "no-match", "all"],
)
def test_an_interface_that_appears_later_is_watched_by_its_name(
    lab: Lab, start_daemon: StartDaemon, interfaces: str, wire: str, *, is_watched: bool
) -> None:
    sentry = start_daemon(f"[watch]\ninterfaces = {interfaces}")
    _second_wire(lab, wire)
    _knock(lab.attacker, SECOND["victim"], 7001, 7002, 7003)
    if is_watched:
        sentry.alert(SECOND["attacker"])
        return
    # The port is unreachable: the answer shows that the last datagram was accepted.
    wait_for(lambda: _unreachable(lab.victim) >= 3, "three answers")
    drain(sentry)
    assert lab.count("judged") == 0


def _unreachable(host: Namespace) -> int:
    """Return the number of ICMP errors that a host has sent (SNMP's IcmpOutDestUnreachs)."""
    [names, values] = [
        line.split() for line in host.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Icmp:")
    ]  # fmt: skip
    return int(values[names.index("OutDestUnreachs")])


def test_a_tunnel_that_comes_up_later_is_watched(lab: Lab, start_daemon: StartDaemon) -> None:
    """Like PPP and VPNs: without Ethernet, up while the daemon runs, deleted and made again."""
    sentry = start_daemon('[watch]\ninterfaces = ["ppp*"]')
    for number, source in enumerate(("198.18.48.2", "198.18.48.3")):
        tunnel = lab.victim.call(lambda: os.open("/dev/net/tun", os.O_RDWR))
        try:
            fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH", b"ppp0", IFF_TUN | IFF_NO_PI))
            add_address(lab.victim, "ppp0", "198.18.48.1/24")
            lab.victim.ip("link", "set", "ppp0", "up")
            for port in (7001, 7002, 7003):
                os.write(tunnel, tcp_frame(bytes(12), source, "198.18.48.1", 40000, port)[ETHER:])
            sentry.alert(source)
            assert lab.is_blocked(source)
        finally:
            os.close(tunnel)
        assert lab.count("judged") == 3 * (number + 1)


def test_a_scan_over_several_uplinks_is_one_and_is_blocked_on_all(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    _second_wire(lab, "wan1")
    _multipath(lab)
    sentry = start_daemon('[watch]\ninterfaces = ["veth0", "wan1"]')
    source = "198.18.200.8"  # behind both
    lab.probe(source, 7001, 7002)
    wait_for(lambda: lab.count("judged") == 2, "two probes by the first uplink")
    lab.attacker.ip("address", "add", f"{source}/32", "dev", "lo")
    lab.attacker.ip("route", "replace", f"{SECOND['victim']}/32", "dev", "up1", "src", source)
    _knock(lab.attacker, SECOND["victim"], 7003)
    sentry.alert(source)
    blocked = lab.dropped(source)
    _knock(lab.attacker, SECOND["victim"], 7004)
    lab.probe(source, LISTED)
    wait_for(lambda: lab.dropped(source) == blocked + 2, "dropped on both uplinks")


def test_the_gateways_of_all_uplinks_are_never_blocked(lab: Lab, start_daemon: StartDaemon) -> None:
    _second_wire(lab, "wan1")
    _multipath(lab)
    sentry = start_daemon("")
    lab.probe(ATTACKER[4], 7001, 7002, 7003)
    _knock(lab.attacker, SECOND["victim"], 7001, 7002, 7003)
    lab.probe(BYSTANDER[4], 7001, 7002, 7003)
    sentry.alert(BYSTANDER[4])
    assert not lab.is_blocked(ATTACKER[4])
    assert not lab.is_blocked(SECOND["attacker"])


def test_an_ipv6_gateway_of_ipv4_is_never_blocked(lab: Lab, start_daemon: StartDaemon) -> None:
    """Its next hops have another family than the route, as in RFC 8950 networks."""
    sentry = start_daemon("")
    lab.victim.ip("route", "add", "default", "via", "inet6", ATTACKER[6], "dev", "veth0")
    gateway = ip_network(ATTACKER[6])
    wait_for(lambda: gateway in lab.table.sets.never_blocked(), "the daemon follows the route")
    lab.probe(ATTACKER[6], 7001, 7002, 7003)
    lab.probe(BYSTANDER[4], 7001, 7002, 7003)
    sentry.alert(BYSTANDER[4])
    assert not lab.is_blocked(ATTACKER[6])


def _multipath(lab: Lab) -> None:
    """A default route over both wires."""
    hops = []
    for gateway, interface in ((ATTACKER[4], "veth0"), (SECOND["attacker"], "wan1")):
        hops += ["nexthop", "via", gateway, "dev", interface]
    lab.victim.ip("route", "add", "default", *hops)
    for name in ("all", "veth0", "wan1"):
        lab.victim.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")


def test_a_vlan_is_a_separate_interface(lab: Lab, start_daemon: StartDaemon) -> None:
    for host, address in ((lab.victim, SECOND["victim"]), (lab.attacker, SECOND["attacker"])):
        try:
            host.ip("link", "add", "link", "veth0", "name", "veth0.5", "type", "vlan", "id", "5")
        except SentryError as error:
            pytest.skip(f"this kernel has no VLANs (CONFIG_VLAN_8021Q): {error}")
        add_address(host, "veth0.5", f"{address}/24")
        host.ip("link", "set", "veth0.5", "up")
    sentry = start_daemon('[watch]\ninterfaces = ["veth0.5"]')
    lab.probe(BYSTANDER[4], 7001, 7002, 7003)
    _knock(lab.attacker, SECOND["victim"], 7001, 7002, 7003)
    sentry.alert(SECOND["attacker"])
    assert lab.count("judged") == 3


# --- bridges


@pytest.fixture
def bridged(lab: Lab) -> Iterator[Namespace]:
    """Make the victim's wire a port of its bridge br0, and return the host at another port."""
    victim = lab.victim
    with Namespace() as other:
        connect(victim, other, ("port1", "veth0"))
        victim.ip("link", "add", "br0", "type", "bridge")
        for port in ("veth0", "port1"):
            victim.ip("link", "set", port, "master", "br0")
        victim.ip("address", "del", f"{VICTIM[4]}/24", "dev", "veth0")
        add_address(victim, "br0", f"{VICTIM[4]}/24")
        victim.ip("link", "set", "br0", "up")
        add_address(other, "veth0", "198.18.0.77/24")
        # The bridge's address, to which the tests' forged frames go.
        lab.ether = lab.mac(victim, "br0") + lab.ether[6:]
        yield other


def _bridge_filter(lab: Lab, value: int) -> None:
    knob = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    if lab.victim.run("test", "-e", knob).returncode:
        pytest.skip("this kernel has no br_netfilter (CONFIG_BRIDGE_NETFILTER)")
    lab.victim.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={value}")


def test_packets_to_this_host_have_the_bridge_as_input_interface(
    lab: Lab, bridged: Namespace, start_daemon: StartDaemon
) -> None:
    sentry = start_daemon('[watch]\ninterfaces = ["br0"]')
    lab.probe(BYSTANDER[4], 7001, 7002, 7003)
    sentry.alert(BYSTANDER[4])


def test_watching_a_port_of_a_bridge_has_no_effect(
    lab: Lab, bridged: Namespace, start_daemon: StartDaemon
) -> None:
    """`sentryfw doctor` reports that."""
    start_daemon('[watch]\ninterfaces = ["veth0"]')
    _knock(lab.attacker, VICTIM[4], 7001, 7002, 7003)
    wait_for(lambda: _unreachable(lab.victim) >= 3, "three answers")
    assert lab.count("judged") == 0


@pytest.mark.parametrize(("value", "holds"), [(0, False), (1, True)], ids=["without", "with"])
def test_blocks_act_on_bridged_packets_with_br_netfilter_only(
    lab: Lab, bridged: Namespace, start_daemon: StartDaemon, value: int, *, holds: bool
) -> None:
    _bridge_filter(lab, value)
    sentry = start_daemon('[watch]\ninterfaces = ["br0"]')
    lab.probe(BYSTANDER[4], 7001, 7002, 7003)
    sentry.alert(BYSTANDER[4])
    lab.listen(LISTED, 4, bridged)
    client = lab.start_opening(BYSTANDER[4])
    before = lab.dropped(BYSTANDER[4])
    client.connect_ex(("198.18.0.77", LISTED))
    wait_for(
        lambda: lab.dropped(BYSTANDER[4]) > before if holds else _is_open(client),
        "dropped" if holds else "reached",
    )
    assert _is_open(client) != holds


def test_with_br_netfilter_and_forward_both_sides_of_a_bridge_are_judged(
    lab: Lab, bridged: Namespace, start_daemon: StartDaemon
) -> None:
    """A limit that doctor warns of: the two sides of a bridge cannot be distinguished."""
    _bridge_filter(lab, 1)
    start_daemon('[watch]\ninterfaces = ["br0"]\nforward = true')
    _knock(bridged, BYSTANDER[4], 7001)
    wait_for(lambda: lab.count("judged") == 1, "the probe from inside")
    _knock(lab.attacker, "198.18.0.77", 7001)
    wait_for(lambda: lab.count("judged") == 2, "the probe from outside")


def _is_open(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True
