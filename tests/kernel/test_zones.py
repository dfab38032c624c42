"""Two uplinks, a VPN, guests and a LAN on one box: each is judged by its own zone."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import pytest

from sentryfw.cli.commands.config import RELOAD_TIMEOUT_S
from sentryfw.control.client import ask
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.lab import ATTACKER, INTERFACE, LISTED, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
ZONES: Final = """
[watch]
interfaces = ["veth0"]
[[zone]]
name = "backup"
interfaces = ["wan2"]
mode = "observe"
trigger = 4
[[zone]]
name = "vpn"
interfaces = ["wg*"]
inside = true
trigger = 8
timeouts = ["10m"]
[[zone]]
name = "guests"
interfaces = ["guest0"]
trigger = 5
timeouts = ["2m"]
listed_tcp = ["7100-7199"]
[[zone]]
name = "lan"
interfaces = ["lan0"]
inside = true
mode = "observe"
trigger = 20
"""


class Net(NamedTuple):
    """A network of the victim, with one host."""

    host: Namespace
    ours: str
    address: str


WIRES: Final = {"backup": "wan2", "vpn": "wg7", "guests": "guest0", "lan": "lan0"}


@pytest.fixture
def nets(lab: Lab) -> Iterator[dict[str, Net]]:
    """The networks by the names of their zones."""
    with ExitStack() as stack:
        made = {}
        for number, (zone, interface) in enumerate(WIRES.items(), 65):
            host = stack.enter_context(Namespace())
            connect(lab.victim, host, (interface, INTERFACE))
            net = Net(host, f"198.18.{number}.1", f"198.18.{number}.9")
            add_address(lab.victim, interface, f"{net.ours}/24")
            add_address(host, INTERFACE, f"{net.address}/24")
            made[zone] = net
        yield made


def _nmap(host: Namespace, address: str, ports: str) -> None:
    command = ["nmap", "-n", "-Pn", "-sS", "-r", "-p", ports, "--max-retries", "0"]
    done = host.run(*command, "--host-timeout", "20s", address)
    assert done.returncode == 0, done.stderr


def _knock(net: Net, *ports: int) -> None:
    """Send one datagram to each port."""
    words = " ".join(f"echo >/dev/udp/{net.ours}/{port};" for port in ports)
    done = net.host.run("bash", "-c", words)
    assert done.returncode == 0, done.stderr


def _connect(net: Net, *ports: int) -> None:
    """Open a connection to each port, as a client does; the ports are closed."""
    words = " ".join(f"! echo >/dev/tcp/{net.ours}/{port} || exit 1;" for port in ports)
    done = net.host.run("bash", "-c", words)
    assert done.returncode == 0, done.stderr


def _use(sentry: Sentry, settings: str) -> None:
    """Have the daemon use another configuration."""
    kept = sentry.config.read_text().partition("[watch]")[0].partition("[[zone]]")[0]
    sentry.config.write_text(f"{kept}\n{settings}\n")
    ask(sentry.settings.paths.control, {"do": "reload"}, RELOAD_TIMEOUT_S)


def _json(sentry: Sentry, *words: str) -> Any:
    program = sentry.command[0].parent / "sentryfw"  # type: ignore[union-attr]
    done = sentry.lab.victim.run(program, "-c", sentry.config, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _event(sentry: Sentry, source: str, action: str) -> dict[str, Any]:
    return dict(sentry.alert(source, action)["sentryfw"])


def test_a_scan_from_each_zone_is_judged_by_that_zone(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES)
    expected = {
        "backup": ("allowed", 4, False), "vpn": ("blocked", 8, True),
        "guests": ("blocked", 5, False), "lan": ("allowed", 20, True),
    }  # fmt: skip
    for zone, (action, targets, inside) in expected.items():
        net = nets[zone]
        _nmap(net.host, net.ours, "7001-7040")
        event = _event(sentry, net.address, action)
        assert (event["zone"], event["targets"], event["inside"]) == (zone, targets, inside)
        assert lab.is_blocked(net.address) == (action == "blocked")
    lab.probe(ATTACKER[4], 7001, 7002, 7003)
    event = _event(sentry, ATTACKER[4], "blocked")
    assert (event["zone"], event["targets"], event["inside"]) == ("", 3, False)
    listed = {item["address"]: item for item in _json(sentry, "list")}
    assert listed[nets["vpn"].address]["zone"] == "vpn"
    assert listed[nets["vpn"].address]["timeout_s"] == 600
    assert listed[nets["guests"].address]["timeout_s"] == 120
    assert listed[ATTACKER[4]]["zone"] == ""
    program = sentry.command[0].parent / "sentryfw"  # type: ignore[union-attr]
    rows = lab.victim.run(program, "-c", sentry.config, "list").stdout.splitlines()
    zones = {row.split("\t")[0]: row.split("\t")[-1] for row in rows}
    assert zones["address"] == "zone"
    assert (zones[nets["vpn"].address], zones[ATTACKER[4]]) == ("vpn", "-")
    told = _json(sentry, "explain", nets["vpn"].address)
    assert told["blocks"][0]["zone"] == "vpn"
    assert "in zone vpn (syn)" in told["because"]


def test_a_client_in_each_zone_reaches_what_is_served(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES)
    lab.listen(LISTED)
    for net in nets.values():
        done = net.host.run("bash", "-c", f"echo >/dev/tcp/{net.ours}/{LISTED}")
        assert done.returncode == 0, done.stderr
        _knock(net, 7001)
    drain(sentry)
    assert not any(sentry.alerts(net.address) for net in nets.values())


def test_the_ports_of_a_zone_are_listed_there_alone(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES)
    guests, lan = nets["guests"], nets["lan"]
    _connect(guests, *range(7100, 7121))
    _nmap(guests.host, guests.ours, "7100-7120")
    drain(sentry)
    assert lab.count("judged") == 0
    _nmap(lan.host, lan.ours, "7100-7125")
    assert _event(sentry, lan.address, "allowed")["zone"] == "lan"
    # The counterpart: who scans the listed range and more is caught.
    _nmap(guests.host, guests.ours, "7190-7210")
    assert _event(sentry, guests.address, "blocked")["zone"] == "guests"


def test_a_scanner_that_spreads_over_two_uplinks_is_blocked(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES.replace("trigger = 4", "trigger = 30"))
    backup = nets["backup"]
    _knock(backup, *range(7001, 7025))
    wait_for(lambda: lab.count("judged") == 24, "probes of the backup uplink")
    drain(sentry)
    assert sentry.alerts(backup.address) == []
    lab.probe(backup.address, 7001)
    event = _event(sentry, backup.address, "blocked")
    assert (event["zone"], event["probes"]) == ("", 25)
    assert lab.is_blocked(backup.address)


def test_a_reload_adds_renames_and_removes_zones_and_keeps_blocks_and_evidence(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES.replace("trigger = 8", "trigger = 6"))
    vpn, guests = nets["vpn"], nets["guests"]
    _knock(guests, *range(7001, 7006))
    _event(sentry, guests.address, "blocked")
    _knock(vpn, *range(7001, 7006))
    wait_for(lambda: lab.count("judged") == 10, "the probes of both")
    drain(sentry)
    renamed = ZONES.replace("trigger = 8", "trigger = 6").replace('"vpn"', '"tunnel"')
    before, _, rest = renamed.partition('[[zone]]\nname = "guests"')
    _use(sentry, before + "[[zone]]\n" + rest.partition("[[zone]]\n")[2])
    assert lab.is_blocked(guests.address)
    _knock(vpn, 7006)
    assert _event(sentry, vpn.address, "blocked")["zone"] == "tunnel"


def test_evidence_of_a_zone_outlasts_a_restart_and_stays_there(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    sentry = start_daemon(ZONES)
    vpn = nets["vpn"]
    _knock(vpn, *range(7001, 7008))
    wait_for(lambda: lab.count("judged") == 7, "seven probes")
    drain(sentry)
    sentry.stop()
    sentry.start()
    lab.probe(vpn.address, 7100)  # from outside: another side
    drain(sentry)
    assert sentry.alerts(vpn.address) == []
    _knock(vpn, 7008)
    assert _event(sentry, vpn.address, "blocked")["zone"] == "vpn"


def test_an_old_configuration_and_its_zone_judge_alike(
    lab: Lab, nets: dict[str, Net], start_daemon: StartDaemon
) -> None:
    old = '[watch]\ninside = ["lan*"]\n[inside]\ntrigger = 8\n'
    sentry = start_daemon(old)
    lan = nets["lan"]
    _knock(lan, *range(7001, 7008))
    wait_for(lambda: lab.count("judged") == 7, "seven probes")
    drain(sentry)
    _use(
        sentry,
        '[[zone]]\nname = "inside"\ninterfaces = ["lan*"]\ninside = true\nmode = "observe"\n'
        'trigger = 8\nwindow = "5m"\nslow_trigger = 60\nslow_window = "1d"\n',
    )
    _knock(lan, 7008)  # the evidence stayed
    event = _event(sentry, lan.address, "allowed")
    assert (event["zone"], event["inside"], event["reason"]) == ("inside", True, "observe")
