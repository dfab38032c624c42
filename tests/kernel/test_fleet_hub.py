"""Two firewalls with a real hub: publishing, a cut, kills, and who may write what."""

import itertools
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.fleet.link.hub import Hub, stream_of
from sentryfw.fleet.link.stream_items import HubFault
from sentryfw.fleet.seal import SEAL_COUNT
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.setup.fleet.authority import issue, make_authority
from support import users
from support.fleet_entries import made
from support.fleet_lab import LINK_ID, Firewall, FleetLab
from support.waiting import wait_for

pytestmark = pytest.mark.netns

SCANNER = "192.0.2.7"
ONLY_ROOT = "only root may ask that: run it with sudo"
ROUNDS = 100
"""Kills in one test: hub, link and daemon in turn at random moments."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetLab]:
    with FleetLab(tmp_path) as made_here:
        yield made_here


def block(firewall: Firewall, *addresses: str) -> None:
    """Block as `sentryfw block` does, as far as the fleet is concerned: rows of the ledger."""
    with Ledger(firewall.box.settings.paths.ledger) as ledger:
        ledger.add([manual_entry(address, 4, 3600.0, time.time()) for address in addresses])


def access(fleet: FleetLab, name: str) -> Hub:
    """Return a connection with the rights of a member."""
    firewall = fleet.firewalls[name]
    hub = Hub(config.load(firewall.box.config).fleet.hub, name)
    firewall.box.namespace.call(hub.connect)
    fleet.at_end(hub.close)
    return hub


def numbers(hub: Hub, name: str) -> list[int]:
    """Return the numbers of all entries in a member's stream."""
    [answer] = hub._ask([("XREVRANGE", stream_of(name), "+", "-", "COUNT", 100_000)])
    ids = [item[0].split(b"-") for item in answer]
    return sorted(int(number) for number, part in ids if part == b"0")


def test_a_block_is_in_the_other_kernel_and_ends_there(fleet: FleetLab) -> None:
    one, two = fleet.firewalls.values()
    assert one.box.sentryfw("block", SCANNER, "2001:db8:7::/64").returncode == 0
    wait_for(lambda: two.blocked() == {SCANNER, "2001:db8:7::"}, "fw2 blocks both")
    assert one.blocked() == set()
    assert one.box.sentryfw("unblock", SCANNER).returncode == 0
    wait_for(lambda: two.blocked() == {"2001:db8:7::"}, "it ends with the member's block")


def test_a_cut_loses_and_lifts_nothing_and_is_caught_up_in_order(fleet: FleetLab) -> None:
    one, two = fleet.firewalls.values()
    block(one, "192.0.2.1")
    wait_for(lambda: two.blocked() == {"192.0.2.1"}, "the first is there")
    one.box.namespace.ip("link", "set", "hub0", "down")
    two.box.namespace.ip("link", "set", "hub0", "down")
    wanted = {"192.0.2.1"} | {f"192.0.3.{number}" for number in range(1, 201)}
    block(one, *sorted(wanted - {"192.0.2.1"}))
    wait_for(lambda: not two.status().get("reached"), "the link sees the cut", 30)
    assert two.blocked() == {"192.0.2.1"}, "nothing is lifted"
    status = two.ask("status")
    assert "is not reached; every firewall guards alone" in status
    for firewall in (one, two):
        firewall.box.namespace.ip("link", "set", "hub0", "up")
        firewall.box.namespace.ip("route", "replace", "10.77.0.1", "via", firewall.gateway)
    wait_for(lambda: two.blocked() == wanted, "everything is caught up", 60)
    gaps = {event["gap"] for kind in ("fleet", "fleet-part") for event in two.events(kind)}
    assert gaps == {0}, "in order, and none left out"
    once = {"block": len(wanted)}
    wait_for(lambda: two.status()["effects"] == once, "each came once, by the link's report")


def test_kills_at_any_moment_lose_and_double_nothing(fleet: FleetLab) -> None:
    one, two = fleet.firewalls.values()
    chance = random.Random(16)
    wanted: set[str] = set()
    victims = itertools.cycle(["hub", "fw1 link", "fw2 link", "fw2 daemon", "fw1 daemon"])
    for turn in range(ROUNDS):
        new = [f"192.0.{turn + 2}.{number}" for number in range(1, 31)]
        wanted.update(new)
        block(one, *new)
        time.sleep(chance.random() * 0.05)
        victim = next(victims)
        if victim == "hub":
            fleet.hub.kill()
            fleet.hub.start()
            continue
        name, what = victim.split()
        firewall = fleet.firewalls[name]
        firewall.kill(what)
        (firewall.start_daemon if what == "daemon" else firewall.start_link)()
    wait_for(lambda: two.blocked() == wanted, "nothing is lost", 90)
    held = numbers(access(fleet, "fw2"), "fw1")
    assert len(held) == len(set(held)) == len(wanted), "and nothing is doubled"
    gaps = {event["gap"] for kind in ("fleet", "fleet-part") for event in two.events(kind)}
    assert gaps == {0}


def test_a_newcomer_takes_sealed_parts_and_lifts_what_ended_within_them(fleet: FleetLab) -> None:
    one, two = fleet.firewalls.values()
    two.kill("link")
    wanted = {f"192.0.{turn}.{number}" for turn in range(2, 6) for number in range(1, 201)}
    block(one, *sorted(wanted))
    assert one.box.sentryfw("block", "198.51.100.9").returncode == 0
    assert one.box.sentryfw("unblock", "198.51.100.9").returncode == 0
    count = len(wanted) + 2
    wait_for(lambda: one.status().get("sent") == count, "the hub has all", 30)
    two.start_link()
    wait_for(lambda: sum(two.status().get("effects", {}).values()) == count, "it has all", 30)
    assert two.blocked() == wanted
    parts = two.events("fleet-part")
    assert sum(part["count"] for part in parts) > count - 2 * SEAL_COUNT
    assert max(part["count"] for part in parts) == SEAL_COUNT
    assert {part["gap"] for part in parts} == {0}
    assert two.status()["refused"] == {"fw1": {}}
    listed = two.box.sentryfw("list", "--json").stdout
    assert listed.count('"fw1"') == len(wanted)


def test_link_and_daemon_as_the_users_of_their_units(tmp_path: Path) -> None:
    """The link has no capability, and of the daemon's socket what carries entries."""
    with FleetLab(tmp_path, services=("fw1", "fw2")) as fleet:
        one, two = fleet.firewalls.values()
        assert one.link is not None
        assert one.daemon is not None
        owners = {Path(f"/proc/{process.pid}").stat().st_uid for process in (one.link, one.daemon)}
        assert owners == {LINK_ID, users.service_user().pw_uid}
        status = Path(f"/proc/{one.link.pid}/status").read_text()
        assert "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000" in status
        assert one.box.sentryfw("block", SCANNER).returncode == 0
        wait_for(lambda: two.blocked() == {SCANNER}, "fw2 blocks it", 20)
        assert two.box.sentryfw("block", "192.0.2.8").returncode == 0
        wait_for(lambda: one.blocked() == {"192.0.2.8"}, "and back", 20)
        refused = {verb: answer_to_link(one, verb) for verb in ("stop", "fleet-drop", "release")}
        assert {text.strip() for text in refused.values()} == {ONLY_ROOT}
        assert answer_to_link(one, "fleet-positions").startswith("{'fw2': ")


def answer_to_link(firewall: Firewall, verb: str) -> str:
    """Return what the daemon answers to a request of the link's user."""
    code = (
        "import sys; from pathlib import Path; from sentryfw.control.client import ask\n"
        "try: print(ask(Path(sys.argv[1]), {'do': sys.argv[2]}))\n"
        "except Exception as error: print(error)"
    )
    control = firewall.box.settings.paths.control
    done = firewall.box.namespace.run(
        *firewall.as_link(), sys.executable, "-P", "-c", code, control, verb
    )
    return done.stdout


def test_a_member_writes_its_own_stream_alone(fleet: FleetLab) -> None:
    hub = access(fleet, "fw1")
    refused = [
        ("XADD", stream_of("fw2"), "1-0", "entry", made(1).entry),
        ("XTRIM", stream_of("fw2"), "MAXLEN", "0"),
        ("XADD", f"{stream_of('fw2')}:state", "*", "a", "b"),
        ("DEL", stream_of("fw1")), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"),
        ("ACL", "LIST"), ("SET", "sentryfw:x", "1"), ("EVAL", "return 1", "0"), ("SHUTDOWN",),
        ("XREAD", "STREAMS", "other", "0"), ("PUBLISH", "a", "b"), ("CLIENT", "LIST"),
    ]  # fmt: skip
    for command in refused:
        with pytest.raises(HubFault, match="does not let this member do that"):
            hub._ask([command])
        fleet.firewalls["fw1"].box.namespace.call(hub.connect)
    assert hub.last(["fw2"]) == {"fw2": 0}, "it may read"


@pytest.mark.parametrize(
    ("certificate", "fault"),
    [
        ("expired", "our certificate, which has expired|refuses our certificate"),
        ("foreign", "not of the hub's authority|refuses our certificate"),
        ("missing", "wants a certificate|refuses our certificate"),
    ],
)
def test_certificates_that_expired_or_are_of_another_authority(
    fleet: FleetLab, certificate: str, fault: str
) -> None:
    firewall = fleet.firewalls["fw1"]
    settings = config.load(firewall.box.config).fleet.hub
    now = datetime.now(UTC)
    assert settings.certificate is not None
    assert settings.key is not None
    if certificate == "expired":
        authority = fleet.hub.files._authority(now)
        made_here = issue(authority, "fw1", now - timedelta(days=100), days=50)
    else:
        made_here = issue(make_authority("other", now), "fw1", now)
    settings.certificate.write_text(made_here.certificate)
    settings.key.write_text(made_here.key)
    if certificate == "missing":
        settings = settings.model_copy(update={"certificate": None, "key": None})
    hub = Hub(settings, "fw1")
    with pytest.raises(HubFault, match=fault):
        firewall.box.namespace.call(lambda: (hub.connect(), hub.last(["fw1"])))


def test_a_hub_of_another_authority_or_a_wrong_password_is_not_used(
    fleet: FleetLab, tmp_path: Path
) -> None:
    firewall = fleet.firewalls["fw1"]
    settings = config.load(firewall.box.config).fleet.hub
    other = tmp_path / "other.pem"
    other.write_text(make_authority("other", datetime.now(UTC)).certificate)
    hub = Hub(settings.model_copy(update={"ca": other}), "fw1")
    with pytest.raises(HubFault, match="is this another server"):
        firewall.box.namespace.call(hub.connect)
    secret = tmp_path / "secret"
    secret.write_text("guess\n")
    hub = Hub(settings.model_copy(update={"password_file": secret}), "fw1")
    with pytest.raises(HubFault, match="does not know this member"):
        firewall.box.namespace.call(hub.connect)
    hub = Hub(settings, "fw2")
    with pytest.raises(HubFault, match="does not know this member"):
        firewall.box.namespace.call(hub.connect)


def test_a_hub_whose_stream_is_replaced_by_lies_changes_nothing(fleet: FleetLab) -> None:
    """The transport is not trusted: what was not signed by the member has no effect."""
    one, two = fleet.firewalls.values()
    block(one, SCANNER)
    wait_for(lambda: two.blocked() == {SCANNER}, "the truth is there")
    hub = access(fleet, "fw1")
    top = hub.last(["fw1"])["fw1"]
    forged = made(top + 1, "fw1")  # signed by another key
    hub.add([forged])
    raw = ("XADD", stream_of("fw1"), f"{top + 2}-0", "entry", "{}", "signature", "0" * 128)
    hub._ask([raw])
    wait_for(lambda: two.status().get("positions", {}).get("fw1") == top + 2, "both were read", 20)
    assert two.blocked() == {SCANNER}
    status = two.ask("status")
    assert "bad-signature 1" in status
    assert "hub: bad-v 1" in status
