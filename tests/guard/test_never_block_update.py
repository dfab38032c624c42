"""How changed never-block sources are applied."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source, source_of_key, source_text
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import NotFound
from sentryfw.guard import never_block_update
from sentryfw.guard.block_index import BlockIndex, KnownBlocks
from sentryfw.guard.never_block_update import Applied, NeverBlockUpdater, chosen_keys
from sentryfw.host.protected import Protected, ProtectedNetworks, index_of
from sentryfw.host.whole6 import Neighbours
from support.guarding import FakeRecorder

BLOCKED = ["198.18.0.2", "198.18.1.2", "2001:2:0:1::", "2001:2:0:2::9", "fe80::9"]


def _key(text: str) -> bytes:
    """Return an address as block4 and block6 hold it."""
    return ip_address(text).packed


def _blocked() -> BlockIndex:
    made = BlockIndex()
    for text in BLOCKED:
        made[_key(text)] = (600.0, 600.0)
    return made


@pytest.mark.parametrize(
    ("networks", "inside"),
    [
        (["198.18.0.2/32"], ["198.18.0.2"]),
        (["198.18.0.0/15"], ["198.18.0.2", "198.18.1.2"]),
        (["198.18.1.0/24", "198.18.0.2/32"], ["198.18.0.2", "198.18.1.2"]),
        (["203.0.113.0/24"], []),
        (["2001:2:0:1::/64"], ["2001:2:0:1::"]),
        (["2001:2::/32"], ["2001:2:0:1::", "2001:2:0:2::9"]),
        (["2001:2:0:1::7/128"], []),
        (["2001:2:0:1::/128"], []),
        (["2001:2:0:1::/120"], []),
        (["2001:2:0:2::/120"], ["2001:2:0:2::9"]),
        (["fe80::9/128"], ["fe80::9"]),
        (["fe80::8/128"], []),
    ],
    ids=[
        "the-address", "its-network", "both", "another", "the-prefix", "a-wider-one",
        "one-address-of-a-64", "its-first-address", "a-part-of-a-64", "a-whole-address",
        "link-local", "its-neighbour",
    ],
)  # fmt: skip
def test_a_block_ends_if_all_of_its_source_is_never_blocked(
    networks: list[str], inside: list[str]
) -> None:
    """A /64 of which one address is never blocked stays blocked: nft accepts that address."""
    index = NetworkIndex(map(ip_network, networks))
    found = chosen_keys(_blocked(), lambda key: index.holds(source_of_key(key)))
    assert found == sorted(_key(text) for text in inside)


class FakeDaemon:
    """The parts of the daemon that an update changes: guard, block sets, policy."""

    def __init__(self) -> None:
        self.memory = KnownBlocks(_blocked())
        self.is_installed = True
        self.gone: set[str] = set()
        """Sources whose block has ended by the time that it is removed."""
        self.replaced: list[NetworkIndex] = []
        self.unblocked: list[str] = []
        self.released: list[str] = []
        self.confined_keys: list[bytes] = []

    async def confined(self) -> list[bytes]:
        return self.confined_keys

    async def replace_never_block(
        self, networks: NetworkIndex, done: Callable[[NetworkIndex], None]
    ) -> bool:
        if self.is_installed:
            done(networks)
        return self.is_installed

    def protect(self, networks: NetworkIndex) -> None:
        self.replaced.append(networks)

    async def replace_neighbours(
        self, found: Neighbours, done: Callable[[Neighbours], None]
    ) -> bool:
        if self.is_installed:
            done(found)
        return self.is_installed

    def unblock(self, source: Source) -> None:
        if source_text(source) in self.gone:
            raise NotFound(source_text(source))

    def release(self, source: Source) -> None:
        self.released.append(source_text(source))

    def record_unblocked(self, addresses: list[str]) -> None:
        self.unblocked += addresses


class Updated:
    """An updater whose host has the sources of `found`."""

    def __init__(self) -> None:
        self.found: list[Protected] = []
        self.hops: list[Any] = []
        self.onlink: list[IPNetwork] = []
        self.used: list[Neighbours] = []
        self.daemon = FakeDaemon()
        self.recorder = FakeRecorder()
        daemon, recorder = self.daemon, self.recorder
        fakes: Any = (daemon, daemon, recorder)
        self.updater = NeverBlockUpdater(
            Config(),
            *fakes,
            ProtectedNetworks.of([]),
            Applied(daemon.protect, daemon.release, self.used.append),
        )

    def collect(self, _config: Config, known: Any) -> tuple[list[Protected], list[Any]]:
        self.hops.append(known)
        return self.found, ["gateway"]

    def update(self, *, routes: bool = True) -> None:
        asyncio.run(self.updater.update(routes=routes))


@pytest.fixture
def updated(monkeypatch: pytest.MonkeyPatch) -> Updated:
    made = Updated()
    monkeypatch.setattr(never_block_update, "collect_protected", made.collect)
    monkeypatch.setattr(
        never_block_update, "neighbours", lambda config: Neighbours.of(config, made.onlink)
    )
    return made


def _protected(*networks: str) -> list[Protected]:
    return [Protected(ip_network(network), "test") for network in networks]


def test_a_new_source_is_applied_and_its_block_ended(updated: Updated) -> None:
    updated.found = _protected("198.18.0.0/24")
    updated.update()
    assert updated.daemon.replaced == [index_of([ip_network("198.18.0.0/24")])]
    assert updated.daemon.released == updated.daemon.unblocked == ["198.18.0.2"]
    assert updated.recorder.kinds() == ["never-block", "unblocked"]
    assert updated.recorder.events[0][1]["added"] == ["198.18.0.0/24 (test)"]
    assert updated.updater.protected == updated.found
    assert updated.updater.refreshed == 1


def test_the_confinement_of_a_new_source_is_ended(updated: Updated) -> None:
    updated.daemon.confined_keys = [_key("198.18.5.5"), _key("203.0.113.5"), _key("198.18.0.2")]
    updated.found = _protected("198.18.0.0/16")
    updated.update()
    assert updated.daemon.unblocked == ["198.18.0.2", "198.18.1.2", "198.18.5.5"]


@pytest.mark.parametrize("why", ["gateway", "resolver"])
@pytest.mark.parametrize("address", ["198.18.0.2", "fe80::9", "2001:2:0:1::77"])
def test_a_blocked_source_does_not_lift_its_block_by_a_claim(
    updated: Updated, why: str, address: str
) -> None:
    """A router advertisement, or a DHCP answer, that names its sender."""
    claimed = Protected(ip_network(address), why)
    updated.found = [claimed]
    updated.update()
    assert updated.daemon.unblocked == updated.daemon.replaced == []
    updated.daemon.memory = KnownBlocks()  # the block has ended
    updated.update()
    assert updated.daemon.replaced == [index_of([claimed.network])]


def test_the_allowlist_ends_the_block_of_a_gateway(updated: Updated) -> None:
    claimed = Protected(ip_network("198.18.0.2"), "gateway")
    updated.found = [claimed, Protected(claimed.network, "allowlist")]
    updated.update()
    assert updated.daemon.unblocked == ["198.18.0.2"]


def test_unchanged_sources_are_not_applied_again(updated: Updated) -> None:
    updated.found = _protected("198.18.0.0/24")
    updated.update()
    updated.update()
    assert updated.updater.refreshed == 1
    assert len(updated.recorder.events) == 2


def test_a_block_that_ended_by_itself_is_not_reported(updated: Updated) -> None:
    updated.daemon.gone = {"198.18.0.2"}
    updated.found = _protected("198.18.0.0/24")
    updated.update()
    assert updated.daemon.released == updated.daemon.unblocked == []
    assert updated.recorder.kinds() == ["never-block"]


def test_nothing_changes_after_an_uninstall(updated: Updated) -> None:
    updated.daemon.is_installed = False
    updated.found = _protected("198.18.0.0/24")
    updated.update()
    assert updated.updater.protected == []
    assert updated.recorder.events == []


def test_blocks_of_sources_that_a_reload_added_are_ended(updated: Updated) -> None:
    updated.found = _protected("198.18.0.0/24")
    updated.updater.reconfigure(Config(), ProtectedNetworks.of(updated.found))
    updated.update()
    assert updated.daemon.replaced == []  # the reload has changed the sets
    assert updated.daemon.unblocked == ["198.18.0.2"]


def test_routes_are_read_only_if_they_may_have_changed(updated: Updated) -> None:
    updated.update(routes=True)
    updated.update(routes=False)
    updated.update(routes=True)
    assert updated.hops == [None, ["gateway"], None]


def test_a_prefix_that_becomes_connected_loses_its_64_block(updated: Updated) -> None:
    updated.update()
    updated.onlink = [ip_network("2001:2:0:1::/64"), ip_network("2001:2:0:2::/120")]
    updated.update()
    assert [found.onlink for found in updated.used] == [
        (ip_network("fe80::/10"),),
        (*updated.onlink, ip_network("fe80::/10")),
    ]
    assert updated.daemon.unblocked == updated.daemon.released == ["2001:2:0:1::/64"]


def test_the_block_of_a_neighbour_stays(updated: Updated) -> None:
    updated.onlink = [ip_network("2001:2:0:2::/64")]
    updated.update()
    assert updated.daemon.unblocked == []


def test_unchanged_neighbours_are_not_applied_again(updated: Updated) -> None:
    updated.update()
    updated.update()
    assert len(updated.used) == 1


def test_neighbours_wait_for_an_installed_table(updated: Updated) -> None:
    updated.daemon.is_installed = False
    updated.update()
    assert updated.used == []
    updated.daemon.is_installed = True
    updated.update()
    assert len(updated.used) == 1
