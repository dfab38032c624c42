"""Never-block sources follow the host: a change takes effect within a second."""

import json
import re
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.record import lookup
from sentryfw.record.ledger import Ledger
from sentryfw.tools.drill.namespace import add_address
from support.lab import ATTACKER, BYSTANDER, INTERFACE, SENTRYFWD, UNLISTED, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
MakeDaemon = Callable[[str], Sentry]
UPDATE_LIMIT_S: Final = 1.0
"""Seconds within which a change must take effect."""


def _never_blocked(lab: Lab) -> set[str]:
    return {str(network) for network in lab.table.sets.never_blocked()}


def _check_update(lab: Lab, change: Callable[[], object], network: str) -> None:
    """Make the change, and wait for the network in the never-block sets."""
    assert not _covered(lab, network)
    change()
    start = time.monotonic()
    wait_for(lambda: _covered(lab, network), f"{network} is never blocked", UPDATE_LIMIT_S)
    assert time.monotonic() - start < UPDATE_LIMIT_S


def _covered(lab: Lab, network: str) -> bool:
    wanted = ip_network(network)
    return any(
        wanted.version == other.version and wanted.subnet_of(other)  # type: ignore[arg-type]
        for other in lab.table.sets.never_blocked()
    )


def _is_spared(lab: Lab, daemon: Sentry, source: str) -> bool:
    """Scan from the source; return whether its probes were reported and it was not blocked."""
    lab.probe(source, *UNLISTED)
    event = daemon.alert(source, action="allowed")
    drain(daemon)
    return event["sentryfw"]["reason"] == "never_block" and not lab.is_blocked(source)


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (("route", "add", "default", "via", ATTACKER[4]), ATTACKER[4]),
        (("-6", "route", "add", "default", "via", ATTACKER[6]), ATTACKER[6]),
        (("route", "add", "default", "nexthop", "via", ATTACKER[4], "nexthop", "via", BYSTANDER[4]),
         BYSTANDER[4]),
    ],
    ids=["ipv4", "ipv6", "one-of-several"],
)  # fmt: skip
def test_a_new_gateway_is_never_blocked(
    lab: Lab, daemon: Sentry, words: tuple[str, ...], address: str
) -> None:
    _check_update(lab, lambda: lab.victim.ip(*words), address)
    assert _is_spared(lab, daemon, address)


@pytest.mark.parametrize("address", ["198.18.9.1/24", "2001:2:0:9::1/64"], ids=["ipv4", "ipv6"])
def test_a_new_address_of_ours_is_never_blocked(lab: Lab, daemon: Sentry, address: str) -> None:
    network = address.partition("/")[0]
    _check_update(lab, lambda: add_address(lab.victim, INTERFACE, address), network)


def test_a_former_gateway_is_judged_again(lab: Lab, daemon: Sentry) -> None:
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    wait_for(lambda: _covered(lab, ATTACKER[4]), "never blocked", UPDATE_LIMIT_S)
    lab.victim.ip("route", "del", "default")
    wait_for(lambda: not _covered(lab, ATTACKER[4]), "not never-block any more", UPDATE_LIMIT_S)
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4], action="blocked")


def test_a_gateway_whose_link_went_down_is_judged_again(lab: Lab, daemon: Sentry) -> None:
    """IPv4 routes go with their link, without a notification."""
    lab.victim.ip("link", "add", "extra", "type", "veth", "peer", "name", "extra1")
    lab.victim.ip("link", "set", "extra1", "up")
    lab.victim.ip("link", "set", "extra", "up")
    lab.victim.ip("route", "add", "default", "via", "203.0.113.1", "dev", "extra", "onlink")
    wait_for(lambda: _covered(lab, "203.0.113.1"), "never blocked", UPDATE_LIMIT_S)
    lab.victim.ip("link", "set", "extra", "down")
    wait_for(lambda: not _covered(lab, "203.0.113.1"), "not never-block any more", UPDATE_LIMIT_S)


def _notes(daemon: Sentry, event: str) -> list[dict[str, Any]]:
    return [e["sentryfw"] for e in daemon.events() if e["sentryfw"].get("event") == event]


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_blocked_source_that_becomes_a_gateway_stays_blocked(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """A router advertisement, which any host on the link can send, makes such a route."""
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family])
    add = ("-6", "route", "add") if family == 6 else ("route", "add")
    lab.victim.ip(*add, "default", "via", ATTACKER[family])
    other = BYSTANDER[family]
    lab.victim.ip(*add, "203.0.113.0/24" if family == 4 else "2001:db8:9::/48", "via", other)
    wait_for(lambda: _covered(lab, other), "the other gateway is never blocked", UPDATE_LIMIT_S)
    assert not _covered(lab, ATTACKER[family])
    assert lab.is_blocked(ATTACKER[family])
    assert _notes(daemon, "unblocked") == []


def test_a_blocked_source_on_the_allowlist_is_unblocked_and_reported(
    lab: Lab, daemon: Sentry
) -> None:
    lab.listen()
    lab.probe(ATTACKER[4], *UNLISTED)
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    daemon.alert(BYSTANDER[4])
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    daemon.settings.paths.allowlist.write_text(f"{ATTACKER[4]}\n")
    wait_for(lambda: not lab.is_blocked(ATTACKER[4]), "unblocked", 5)
    [note] = wait_for(lambda: _notes(daemon, "unblocked"), "the event")
    assert (note["addresses"], note["why"]) == ([ATTACKER[4]], "never blocked from now on")
    [change] = _notes(daemon, "never-block")
    assert change["added"] == [f"{ATTACKER[4]}/32 (allowlist)"]
    assert lab.answers(ATTACKER[4])
    assert lab.is_blocked(BYSTANDER[4])
    with Ledger(daemon.settings.paths.ledger) as ledger:
        wait_for(
            lambda: lookup.history(ledger, ATTACKER[4]).blocks[-1].unblocked_at,
            "recorded in the ledger",
        )


@pytest.fixture
def resolv_conf(make_daemon: MakeDaemon) -> tuple[Sentry, Path]:
    """Return a daemon that has its own resolv.conf, and that file."""
    daemon = make_daemon("")
    directory = daemon.home / "etc"
    directory.mkdir()
    path = directory / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    shell = f"mount --bind {path} /etc/resolv.conf && exec " + " ".join(map(str, daemon.command))
    daemon.command = ["unshare", "--mount", "sh", "-c", shell]
    return daemon.start(), path


def test_a_new_resolver_is_never_blocked(lab: Lab, resolv_conf: tuple[Sentry, Path]) -> None:
    daemon, path = resolv_conf
    assert _covered(lab, "192.0.2.53")
    path.write_text(f"nameserver {ATTACKER[4]}\n")
    wait_for(lambda: _covered(lab, ATTACKER[4]), "never blocked", 3)
    assert not _covered(lab, "192.0.2.53")
    assert _is_spared(lab, daemon, ATTACKER[4])


def test_the_networks_of_a_named_interface_are_never_blocked(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon('[never_block]\ninterfaces = ["vet*"]')
    assert _covered(lab, "198.18.0.0/24")
    assert _covered(lab, "2001:2::/48")
    assert not _covered(lab, "fe80::/64")
    assert _is_spared(lab, daemon, ATTACKER[6])
    _check_update(lab, lambda: add_address(lab.victim, INTERFACE, "198.19.0.1/20"), "198.19.0.0/20")


def test_never_block_sources_survive_a_flushed_ruleset(lab: Lab, daemon: Sentry) -> None:
    """The repair restores the present sources, not those of the install."""
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    wait_for(lambda: _covered(lab, ATTACKER[4]), "never blocked", UPDATE_LIMIT_S)
    lab.nft("flush ruleset")
    wait_for(lambda: lab.nft("list tables") and _covered_or_repairing(lab, ATTACKER[4]), "repaired")
    assert _is_spared(lab, daemon, ATTACKER[4])


def _covered_or_repairing(lab: Lab, network: str) -> bool:
    try:
        return _covered(lab, network)
    except SentryError:  # the table is being repaired
        return False


def test_a_storm_of_changes_ends_in_the_last_state(lab: Lab, daemon: Sentry) -> None:
    for number in range(40):
        add_address(lab.victim, INTERFACE, f"198.19.{number}.1/24")
    wait_for(lambda: _covered(lab, "198.19.39.1"), "the last one is never blocked", 3)
    assert _never_blocked(lab) >= {f"198.19.{n}.1/32" for n in range(40)}
    assert daemon.status()["never_block"]["refreshed"] < 40
    assert daemon.status()["healed"]["count"] == 0


def test_other_routes_and_links_change_nothing(lab: Lab, daemon: Sentry) -> None:
    before = _never_blocked(lab)
    lab.victim.ip("route", "add", "192.0.2.0/24", "dev", INTERFACE)
    lab.victim.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    lab.victim.ip("route", "add", "default", "via", BYSTANDER[4])
    wait_for(lambda: _covered(lab, BYSTANDER[4]), "the gateway after them")
    assert _never_blocked(lab) - before <= {f"{BYSTANDER[4]}/32", "198.18.0.1/32", "198.18.0.3/32"}
    assert not _covered(lab, ATTACKER[4])


# --- block --force


def _block(lab: Lab, daemon: Sentry, *words: str) -> CompletedProcess[str]:
    return lab.victim.run(SENTRYFWD.with_name("sentryfw"), "-c", daemon.config, "block", *words)


def test_a_never_blocked_address_is_refused_without_force(lab: Lab, daemon: Sentry) -> None:
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    done = _block(lab, daemon, "198.18.0.0/24")
    assert done.returncode == 1
    assert "which is never blocked" in done.stderr
    assert "--force" in done.stderr
    assert list(lab.table.sets.blocked_networks()) == []


def test_force_blocks_the_rest_and_names_never_blocked_sources(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    wait_for(lambda: _covered(lab, ATTACKER[4]), "never blocked", UPDATE_LIMIT_S)
    done = _block(lab, daemon, "--force", "198.18.0.0/24")
    assert done.returncode == 0, done.stderr
    assert f"{ATTACKER[4]}/32 is not affected: gateway" in done.stderr
    assert lab.answers(ATTACKER[4])
    dropped = lab.count("blocked_early")
    lab.probe(BYSTANDER[4], 8022)
    wait_for(lambda: lab.count("blocked_early") == dropped + 1, "the rest is blocked")


def test_force_reports_that_a_never_blocked_address_stays_accepted(
    lab: Lab, daemon: Sentry
) -> None:
    """The address itself is in the block set, and accepted by the rule before it."""
    lab.listen()
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    wait_for(lambda: _covered(lab, ATTACKER[4]), "never blocked", UPDATE_LIMIT_S)
    done = _block(lab, daemon, "--force", ATTACKER[4])
    assert done.returncode == 0
    assert f"{ATTACKER[4]}/32 is not affected: gateway" in done.stderr
    assert lab.table.sets.is_blocked(parse_source(ATTACKER[4]))
    lab.open(ATTACKER[4]).close()  # the lookup counts in the element, although it is accepted
    program = SENTRYFWD.with_name("sentryfw")
    told = lab.victim.run(program, "-c", daemon.config, "explain", ATTACKER[4], "--json")
    assert "nft accepts it although it is in a block set" in json.loads(told.stdout)["because"]


def test_what_passes_from_a_blocked_64_does_not_count_as_dropped(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    one, other = ATTACKER[6], ATTACKER[6].removesuffix("2") + "9"
    daemon = start_daemon(f'[never_block]\naddresses = ["{one}"]')
    add_address(lab.attacker, INTERFACE, f"{other}/64")
    prefix = f"{ip_network(f'{one}/64', strict=False).network_address}"
    lab.nft(f"add element inet sentryfw block6 {{ {prefix} timeout 1h }}")
    lab.probe(one, *UNLISTED)
    daemon.alert(one, action="allowed")
    assert _packets(lab, prefix) == 0
    lab.probe(other, UNLISTED[0])
    wait_for(lambda: _packets(lab, prefix) == 1, "a neighbour in the /64 is dropped, and counts")


def _packets(lab: Lab, address: str) -> int:
    listed = lab.victim.run("nft", "list", "set", "inet", "sentryfw", "block6").stdout
    found = re.search(rf"{address} counter packets (\d+)", listed)
    assert found is not None, listed
    return int(found[1])
