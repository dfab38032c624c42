"""Clients that come before their services do: a block for that ends when the services are there."""

import json
from collections.abc import Callable

import pytest

from support.lab import ATTACKER, BYSTANDER, SENTRYFWD, UNLISTED, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MakeDaemon = Callable[[str], Sentry]
SERVICES = (993, 587, 443)
LOOK_LIMIT_S = 25.0
"""Ten seconds until a socket counts, two looks, and a slow machine."""
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@both_families
def test_clients_are_unblocked_when_their_services_have_started(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    client, scanner = ATTACKER[family], BYSTANDER[family]
    lab.probe(client, *SERVICES)
    lab.probe(scanner, *SERVICES, *UNLISTED)  # it is blocked by its third, as the client is
    daemon.alert(client)
    daemon.alert(scanner)
    for port in SERVICES:
        lab.listen(port, family)
    wait_for(lambda: not lab.is_blocked(client), "unblocked", LOOK_LIMIT_S)
    told = "the services that they asked for have started"
    wait_for(lambda: told in str(daemon.events()), "the event")
    program = SENTRYFWD.with_name("sentryfw")
    done = lab.victim.run(program, "-c", daemon.config, "explain", client, "--json")
    found = json.loads(done.stdout)
    assert not found["blocked"]
    assert "had not started yet" in found["because"]
    # A source that goes on with other ports is blocked again.
    lab.probe(scanner, *UNLISTED)
    wait_for(lambda: lab.is_blocked(scanner), "a scanner")
    lab.probe(client, SERVICES[0])
    assert lab.answers(client, SERVICES[0])


def test_a_scanner_that_hit_such_a_port_and_others_stays_blocked(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    """Its first three targets are a scan, none of them a service."""
    daemon = make_daemon("[detect]\ntrigger = 3\n[detect.triggers]\nsyn = 3").start()
    lab.probe(ATTACKER[4], 1, 2, 3)
    lab.probe(BYSTANDER[4], *SERVICES)
    daemon.alert(ATTACKER[4])
    daemon.alert(BYSTANDER[4])
    lab.listen(SERVICES[0])
    wait_for(lambda: not lab.is_blocked(BYSTANDER[4]), "the client is unblocked", LOOK_LIMIT_S)
    assert lab.is_blocked(ATTACKER[4])


def test_a_local_udp_client_clears_no_evidence(lab: Lab, daemon: Sentry) -> None:
    """An attacker can make a resolver open a socket; a service has a port outside that range."""
    low = int(lab.victim.run("cat", "/proc/sys/net/ipv4/ip_local_port_range").stdout.split()[0])
    ports = (low + 11, low + 12, low + 13)
    for source, targets in ((ATTACKER[4], ports), (BYSTANDER[4], (5001, 5002, 5003))):
        for port in targets:
            lab.udp(source).sendto(b"?", ("198.18.0.1", port))
        daemon.alert(source)
    for port in (*ports, 5001):
        lab.bind_udp(port)
    wait_for(lambda: not lab.is_blocked(BYSTANDER[4]), "the client is unblocked", LOOK_LIMIT_S)
    assert lab.is_blocked(ATTACKER[4])
