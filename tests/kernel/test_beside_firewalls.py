"""SentryFW with other firewalls: each keeps its meaning, ours takes effect, neither ends the other.

docs/coexistence.md has the order of the hooks; here it is compared with what is really loaded.
"""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sentryfw.netfilter.install import uninstall
from sentryfw.tools.drill.namespace import add_address
from support.guest import Guest, fetch
from support.lab import INTERFACE, PREFIX, VICTIM, Lab, Sentry
from support.neighbours import ACCEPTED, NEIGHBOURS, REFUSED, Host, Neighbour
from support.router import FORWARD, PUBLISHED, Router, hosts
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.peers]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "coexistence.md"
NO_ANSWER: Final = 0.15
"""Seconds after which there is none."""
_numbers = itertools.count(0x20)


class Beside(NamedTuple):
    """A neighbour, with SentryFW beside it."""

    neighbour: Neighbour
    host: Host
    router: Router
    sentry: Sentry
    alone: str
    """The neighbour's rules before SentryFW was installed."""
    accompanied: str
    """And after it."""

    @property
    def lab(self) -> Lab:
        return self.host.lab

    def stranger(self, family: int) -> str:
        """Return an address of the attacker's host that was not used yet."""
        number = next(_numbers)
        address = f"198.18.0.{number}" if family == 4 else f"2001:2:0:{number:x}::1"
        add_address(self.lab.attacker, INTERFACE, f"{address}/{PREFIX[family]}")
        return address

    def ways(self, family: int) -> list[tuple[str, int]]:
        """Addresses and ports that every source reaches."""
        published = [(VICTIM[family], PUBLISHED)] if self.neighbour.published else []
        return [(VICTIM[family], ACCEPTED), *published]

    def closed(self, source: str, family: int) -> list[tuple[str, int]]:
        """Return the addresses and ports that should answer this source and do not."""
        opens = self.router.opens
        return [way for way in self.ways(family) if not opens(source, *way, timeout=5)]

    def keeps_its_meaning(self, family: int) -> None:
        assert self.closed(self.stranger(family), family) == []
        source = self.neighbour.sources[family]
        refused = self.neighbour.refused
        assert not self.router.opens(source, VICTIM[family], refused, timeout=NO_ANSWER)


@pytest.fixture(scope="module", params=NEIGHBOURS, ids=lambda neighbour: neighbour.name)
def beside(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Beside]:
    neighbour: Neighbour = request.param
    root = fetch(tmp_path_factory.mktemp("neighbour"), neighbour.packages)
    with Lab() as lab, Router(lab) as router, Guest(lab.victim, root) as guest:
        host = Host(lab, guest)
        for family in (4, 6):
            lab.listen(ACCEPTED, family)
            lab.listen(REFUSED, family)
            router.listen(family)
        neighbour.start(host)
        alone = host.theirs()
        sentry = Sentry(lab, FORWARD)
        try:
            sentry.start()
            yield Beside(neighbour, host, router, sentry, alone, host.theirs())
        finally:
            sentry.close()


def test_an_installation_changes_nothing_of_theirs(beside: Beside) -> None:
    assert beside.alone
    assert "chain divert_input" in beside.lab.nft("list table inet sentryfw")
    assert beside.accompanied == beside.alone


@both_families
def test_their_accepts_and_drops_keep_their_meaning(beside: Beside, family: int) -> None:
    beside.keeps_its_meaning(family)


@both_families
def test_a_blocked_scanner_reaches_no_port(beside: Beside, family: int) -> None:
    source = beside.stranger(family)
    assert beside.closed(source, family) == []
    beside.lab.probe(other := beside.stranger(family), 7001, 7002, 7003)
    beside.sentry.alert(other)
    for way in beside.ways(family):
        assert not beside.router.opens(other, *way, timeout=NO_ANSWER), way
    assert beside.closed(source, family) == []


@both_families
def test_a_sweep_over_hosts_behind_is_seen(beside: Beside, family: int) -> None:
    beside.router.probe(source := beside.stranger(family), *hosts(family, 3))
    assert beside.sentry.alert(source)["sentryfw"]["scan"] == "portsweep"


def test_their_reload_does_not_remove_our_table(beside: Beside) -> None:
    """Their `flush ruleset` deletes our table; it is restored within moments, with its blocks."""
    lab = beside.lab
    lab.probe(before := beside.stranger(4), 7001, 7002, 7003)
    beside.sentry.alert(before)
    ours = lab.nft("-s", "list", "chain", "inet", "sentryfw", "divert_input")
    beside.neighbour.reload(beside.host)

    def is_whole() -> bool:
        done = lab.victim.run(*("nft", "-s", "list", "chain", "inet", "sentryfw", "divert_input"))
        return done.stdout == ours and lab.is_blocked(before)

    wait_for(is_whole, "our table and its blocks")
    # CrowdSec's bouncer adds its rule once more at each start.
    assert _once_each(beside.host.theirs()) == _once_each(beside.alone)
    beside.keeps_its_meaning(4)
    assert not beside.router.opens(before, VICTIM[4], ACCEPTED, timeout=NO_ANSWER)
    lab.probe(after := beside.stranger(4), 7001, 7002, 7003)
    beside.sentry.alert(after)


def test_an_uninstallation_changes_nothing_of_theirs(beside: Beside) -> None:
    lab = beside.lab
    before = beside.host.theirs()
    beside.sentry.stop()
    assert lab.victim.call(lambda: uninstall(lab.table))
    try:
        assert "sentryfw" not in lab.nft("list", "ruleset")
        assert beside.host.theirs() == before
        beside.keeps_its_meaning(4)
    finally:
        beside.sentry.start()
    assert beside.host.theirs() == before


def _once_each(listing: str) -> list[str]:
    """Return the lines of a listing; of equal neighbours only one."""
    return [line for line, _ in itertools.groupby(listing.splitlines())]


# --- the order of the hooks


class Hook(NamedTuple):
    """A base chain that incoming packets pass."""

    owner: str
    hook: str
    priority: int
    chain: str


WATCHED: Final = ("prerouting", "input", "forward")


def _written() -> list[Hook]:
    """Return the table of docs/coexistence.md: hook, priority, owner, chain."""
    row = re.compile(r"^\| (\w+) \| (-?\d+) \| ([^|]+) \| `([^`]+)` \|", re.MULTILINE)
    rows = row.findall(PAGE.read_text())
    return [Hook(owner, hook, int(priority), chain) for hook, priority, owner, chain in rows]


def _loaded(beside: Beside) -> set[Hook]:
    listing = json.loads(beside.lab.nft("-j", "list", "chains"))["nftables"]
    chains = [item["chain"] for item in listing if "hook" in item.get("chain", {})]
    return {
        Hook(
            "SentryFW" if chain["table"] == "sentryfw" else beside.neighbour.name,
            chain["hook"], chain["prio"], f"{chain['table']} {chain['name']}",
        )
        for chain in chains
        if chain["hook"] in WATCHED
    }  # fmt: skip


def test_the_page_has_every_hook_and_its_priority(beside: Beside) -> None:
    owners = ("SentryFW", beside.neighbour.name)
    assert {row for row in _written() if row.owner in owners} == _loaded(beside)


def test_the_page_is_in_the_order_in_which_packets_pass() -> None:
    places = [(WATCHED.index(row.hook), row.priority) for row in _written()]
    assert places
    assert places == sorted(places)
