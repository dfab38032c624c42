"""Partners: forgeable evidence confines a source to the services that served it."""

import socket
import struct
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from support.frames import ACK, FIN, SYN
from support.lab import (
    ATTACKER,
    BYSTANDER,
    INTERFACE,
    LISTED,
    SENTRYFWD,
    UNLISTED,
    VICTIM,
    Lab,
    Sentry,
    drain,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KEYS = {4: (ATTACKER[4], BYSTANDER[4]), 6: ("2001:2:0:1::", "2001:2:0:2::")}
"""The keys of the two sources in a set: an IPv6 source is its /64."""
OTHER = LISTED + 1
"""A listed port that the partner never used."""


def _cli(lab: Lab, daemon: Sentry, *words: str) -> CompletedProcess[str]:
    return lab.victim.run(SENTRYFWD.with_name("sentryfw"), "-c", daemon.config, *words)


def _is_confined(lab: Lab, source: str) -> bool:
    name = "confine6" if ":" in source else "confine4"
    return any(source.startswith(key.removesuffix("::")) for key in lab.elements(name))


def _is_dropped(lab: Lab, source: str, port: int) -> bool:
    """Return whether a new connection is dropped because the source is confined."""
    before = lab.count("confined")
    client = lab.start_opening(source)
    client.connect_ex((VICTIM[6 if ":" in source else 4], port))
    wait_for(lambda: lab.count("confined") > before, "a dropped SYN")
    client.close()
    return True


@both_families
def test_who_was_served_becomes_a_partner(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.listen(LISTED, family)
    client = lab.open(ATTACKER[family])
    assert lab.elements(f"partner{family}") == set()
    client.sendall(b"hello")
    wait_for(lambda: lab.elements(f"partner{family}") == {KEYS[family][0]}, "a partner")
    assert lab.elements(f"fresh{family}") == {KEYS[family][0]}


@both_families
@pytest.mark.parametrize("flags", [SYN, FIN, 0, SYN | FIN], ids=["syn", "fin", "null", "synfin"])
def test_forged_probes_cost_a_partner_nothing_that_it_uses(
    lab: Lab, daemon: Sentry, family: int, flags: int
) -> None:
    lab.listen(LISTED, family)
    lab.listen(OTHER, family)
    client = lab.make_partner(ATTACKER[family])
    lab.probe(ATTACKER[family], *UNLISTED, flags=flags)
    event = daemon.alert(ATTACKER[family], action="allowed")
    assert event["sentryfw"]["action"] == "confined"
    drain(daemon)
    assert _is_confined(lab, ATTACKER[family])
    assert not lab.is_blocked(ATTACKER[family])
    client.sendall(b"still here")
    lab.open(ATTACKER[family]).close()
    assert _is_dropped(lab, ATTACKER[family], OTHER)
    assert lab.answers(BYSTANDER[family], OTHER)


@both_families
def test_a_partner_that_scans_finds_what_it_used_and_nothing_else(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    for port in range(LISTED, LISTED + 4):
        lab.listen(port, family)
    lab.make_partner(ATTACKER[family])
    source = ["-6"] if family == 6 else []
    ports = f"{LISTED}-{LISTED + 3},7000-7100"
    source += ["-S", ATTACKER[family], "-e", INTERFACE]
    command = ["nmap", *source, "-n", "-Pn", "-sS", "-r", "-p", ports, "--max-retries", "0"]
    found = lab.attacker.run(*command, "--open", "-oG", "-", VICTIM[family]).stdout
    assert found.count("/open/") <= 1
    assert _is_confined(lab, ATTACKER[family])


def test_the_same_probes_block_a_stranger(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4], action="blocked")


@both_families
def test_a_handshake_right_before_a_scan_is_worth_nothing(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.listen(LISTED, family)
    lab.open(ATTACKER[family]).sendall(b"GET / HTTP/1.0")
    wait_for(lambda: lab.elements(f"partner{family}"), "a fresh partner")
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family], action="blocked")
    assert not lab.answers(ATTACKER[family])


def test_an_unblock_ends_a_confinement(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.listen(OTHER)
    lab.make_partner(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: _is_confined(lab, ATTACKER[4]), "confined")
    drain(daemon)
    assert _cli(lab, daemon, "unblock", ATTACKER[4]).returncode == 0
    assert lab.answers(ATTACKER[4], OTHER)


def _saved(daemon: Sentry) -> None:
    """Wait until the ledger has what the sets hold now."""
    runs = daemon.status()["reconciled"]["runs"]
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] > runs, "reconciled", 20)


LIFTS = [
    ["unblock", ATTACKER[4]], ["unblock", "--all"], ["unblock", "198.18.0.0/24"],
    ["allow", "add", ATTACKER[4]], [],
]  # fmt: skip


@pytest.mark.parametrize(
    "words", LIFTS, ids=["unblock", "unblock-all", "unblock-network", "allow", "untouched"]
)
def test_a_lifted_confinement_stays_lifted(lab: Lab, daemon: Sentry, words: list[str]) -> None:
    """Neither a repair of the table nor a start after SIGKILL restores it from what was saved."""
    lab.listen()
    lab.make_partner(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: _is_confined(lab, ATTACKER[4]), "confined")
    _saved(daemon)
    if words:
        assert _cli(lab, daemon, *words).returncode == 0
    wait_for(lambda: _is_confined(lab, ATTACKER[4]) is not bool(words), "lifted")
    repairs = daemon.status()["healed"]["count"]
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] > repairs, "repaired")
    assert _is_confined(lab, ATTACKER[4]) is not bool(words)
    daemon.kill()
    lab.nft("flush ruleset")
    daemon.start()
    assert _is_confined(lab, ATTACKER[4]) is not bool(words)


def test_a_confined_partner_is_listed_and_explained(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4], action="allowed")
    listed = _cli(lab, daemon, "list", "--json").stdout
    assert '"decision": "confine"' in listed
    assert "confined" in _cli(lab, daemon, "explain", ATTACKER[4]).stdout


def test_late_packets_of_a_partner_are_not_evidence(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED, *range(9000, 9020), flags=ACK)
    late = "late packet of a partner"
    wait_for(lambda: daemon.status()["engine"].get(late) == 23, "23 late packets")
    assert daemon.alerts(ATTACKER[4]) == []


@both_families
def test_a_suspect_that_is_served_becomes_a_partner(lab: Lab, daemon: Sentry, family: int) -> None:
    """One forged probe every few seconds does not keep a client from becoming one."""
    lab.listen(LISTED, family)
    lab.probe(ATTACKER[family], UNLISTED[0])
    wait_for(lambda: lab.elements(f"suspect{family}") == {KEYS[family][0]}, "a suspect")
    lab.open(ATTACKER[family]).sendall(b"hello")
    wait_for(lambda: lab.elements(f"partner{family}") == {KEYS[family][0]}, "a partner")


def test_a_partner_is_blocked_where_partners_is_false(
    lab: Lab, start_daemon: Callable[[str], Sentry]
) -> None:
    daemon = start_daemon("[never_block]\npartners = false")
    lab.listen()
    lab.make_partner(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4], action="blocked")
    assert not lab.answers(ATTACKER[4])


@pytest.mark.nmap
@both_families
def test_a_connect_scan_that_begins_with_a_listed_port_is_blocked(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """The handshake with the listed port is over before the first unlisted probe."""
    lab.listen(LISTED, family)
    source = ["-6"] if family == 6 else []
    ports = f"{LISTED},{LISTED + 1}-{LISTED + 8}"
    command = ["nmap", *source, "-n", "-Pn", "-sT", "-r", "-p", ports, "--max-retries", "0"]
    lab.attacker.run(*command, VICTIM[family])
    wait_for(lambda: _was_blocked(daemon), "the scanner is blocked")


def test_a_partner_that_resets_its_connection_stays_one(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    client = lab.make_partner(ATTACKER[4])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    lab.open(ATTACKER[4])
    assert lab.elements("partner4") == {ATTACKER[4]}
    assert lab.count("half_open") == 0


def test_a_live_flow_survives_a_forged_block_and_not_a_block_by_hand(
    lab: Lab, daemon: Sentry
) -> None:
    server = lab.bind_udp(LISTED)
    server.settimeout(5)
    client = lab.udp(ATTACKER[4])
    client.settimeout(5)
    client.connect((VICTIM[4], LISTED))

    def reaches() -> bool:
        client.send(b"ping")
        try:
            _, source = server.recvfrom(9)
        except TimeoutError:
            return False
        server.sendto(b"pong", source)
        return client.recv(9) == b"pong"

    assert reaches()
    assert reaches()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4], action="blocked")
    assert reaches()
    assert _cli(lab, daemon, "block", ATTACKER[4]).returncode == 0
    server.settimeout(0.3)
    assert not reaches()


def _was_blocked(daemon: Sentry) -> bool:
    return any(event.get("alert", {}).get("action") == "blocked" for event in daemon.events())


@both_families
def test_a_redirected_port_is_learnt_beside_the_one_that_it_leads_to(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """The client used the target's own port before; the live connection is by the other port."""
    published = 8000
    lab.nft("add table inet site")
    lab.nft("add chain inet site pre { type nat hook prerouting priority dstnat; }")
    lab.nft(f"add rule inet site pre tcp dport {published} redirect to :{LISTED}")
    lab.listen(LISTED, family)
    lab.make_partner(ATTACKER[family])
    client = lab.open(ATTACKER[family], published)
    client.sendall(b"hello")
    wait_for(
        lambda: f". tcp . {published} " in lab.nft(f"list set inet sentryfw served{family}"),
        "the redirected port",
    )


def test_a_neighbour_is_learnt_by_its_address_where_its_prefix_was_a_partner(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    """The prefix was learnt before it was named in whole6; its neighbours do not keep it."""
    prefix, neighbour = KEYS[6][0], ATTACKER[6]
    start_daemon(f'[detect]\nwhole6 = ["{prefix}/64"]')
    lab.nft(f"add element inet sentryfw partner6 {{ {prefix} timeout 1d }}")
    lab.nft(f"add element inet sentryfw served6 {{ {prefix} . {VICTIM[6]} . tcp . {LISTED} }}")
    listener = lab.listen(LISTED, 6)
    client = lab.open(neighbour)
    server, _ = listener.accept()
    client.sendall(b"hello")
    assert server.recv(5) == b"hello"
    server.close()
    wait_for(lambda: neighbour in lab.elements("partner6"), "a partner by its address")
