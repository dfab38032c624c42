"""CrowdSec as a member: what is asked for, and what its decisions do on a table in memory."""

import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet import exchange as exchange_module
from sentryfw.daemon.fleet import intake as module
from sentryfw.daemon.fleet.crowdsec_member import CrowdsecMember
from sentryfw.daemon.fleet.exchange import Exchange
from sentryfw.daemon.fleet.intake import Surroundings
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.record.fleet import held, outbox
from sentryfw.record.ledger import Ledger
from sentryfw.respond.neighbours.decisions import Decision
from support.fake_table import FakeKernel, FakeTable

GATEWAY = ip_network("198.51.100.1/32")
A, B = "192.0.2.7", "192.0.2.8"


def by_hand(address: str = A, seconds: float = 3600.0) -> Decision:
    return Decision(address, seconds, True, "cscli", "abuse")


def forgeable(address: str = B, seconds: float = 3600.0) -> Decision:
    return Decision(address, seconds, False, "CAPI", "crowdsecurity/ssh-bf\x1b")


class Site:
    """A firewall whose only member is CrowdSec."""

    def __init__(self, state: Path, **section: Any) -> None:
        given = {"url": "http://127.0.0.1:8080/", "credentials": "/nonexistent", **section}
        self.config = Config.model_validate({"fleet": {"crowdsec": given}}).model_copy(
            update={"paths": Paths(state=state)}
        )
        self.kernel = FakeKernel()
        self.kernel.install()
        self.start()

    def start(self) -> None:
        """Forget all but kernel and ledger."""
        self.notes: list[tuple[str, dict[str, Any]]] = []
        engine = Engine(self.config.horizons(), self.config.policy(NetworkIndex((GATEWAY,))))
        self.weighed = Weighed()
        recorder: Any = self
        around = Surroundings(engine, KnownBlocks(), self.weighed, recorder)
        self.exchange = Exchange(self.config, around)
        self.exchange.start(FakeTable(self.kernel), time.monotonic(), time.time())

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append((kind, fields))

    @property
    def member(self) -> CrowdsecMember:
        assert self.exchange.crowdsec is not None
        return self.exchange.crowdsec

    @property
    def counts(self) -> Any:
        return self.exchange.status()["members"]["crowdsec"]

    def fleet(self) -> set[str]:
        """Return the addresses in the fleet's sets."""
        from sentryfw.netfilter.block_sets import blocked_of  # noqa: PLC0415

        return {blocked_of(item).address for item in FakeTable(self.kernel).decisions.of_fleet()}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    def build(**section: Any) -> Site:
        site = Site(tmp_path, **section)
        for one in (module, exchange_module):
            monkeypatch.setattr(one, "Table", lambda: FakeTable(site.kernel))
        return site

    return build


def test_by_hand_blocks_and_others_are_weighed(make: Callable[..., Site]) -> None:
    site = make()
    site.member.take([], [by_hand(), forgeable()])
    assert site.fleet() == {A}
    assert site.weighed.holds(parse_source(B), time.monotonic())
    noted = [(kind, one["member"], one["evidence"], one["reason"]) for kind, one in site.notes]
    assert noted == [
        ("fleet", "crowdsec", "hand", "cscli: abuse"),
        ("fleet", "crowdsec", "forgeable", "CAPI: crowdsecurity/ssh-bf?"),
    ]
    query = site.member.query(compare=False)
    assert {address: one.by_hand for address, one in query.held.items()} == {A: True, B: False}
    site.member.take([A, B], [])
    assert site.fleet() == set()
    assert not site.weighed


@pytest.mark.parametrize(
    ("trust", "blocked"), [("full", {A, B}), ("weigh", {A}), ("show", set[str]())]
)
def test_trust_decides_as_for_other_members(
    make: Callable[..., Site], trust: str, blocked: set[str]
) -> None:
    site = make(trust=trust)
    site.member.take([], [by_hand(), forgeable()])
    assert site.fleet() == blocked


def test_caps_hold_with_full_trust_too(make: Callable[..., Site]) -> None:
    site = make(trust="full", max_alive=4, per_minute=1)
    site.member.take([], [by_hand(f"192.0.2.{n}", 10**7) for n in range(1, 6)])
    assert site.counts["blocks"] == 4
    assert site.counts["refused"] == {"too-fast": 1}
    left = [one.seconds for one in site.member.query(compare=True).held.values()]
    assert max(left) <= 4 * 3600


@pytest.mark.parametrize(
    ("address", "trust", "why"),
    [
        ("198.51.100.1", "full", "never-block"), ("127.0.0.1", "full", "never-block"),
        ("203.0.113.5", "full", "never-block"), ("198.51.100.0/24", "full", "never-block"),
        ("192.0.2.0/24", "weigh", "network"),
    ],
)  # fmt: skip
def test_what_is_exempt_here_wins(
    make: Callable[..., Site], address: str, trust: str, why: str
) -> None:
    site = make(trust=trust)
    site.kernel.add("partner", "203.0.113.5")
    site.member.take([], [by_hand(address), by_hand()])
    assert site.fleet() == {A}
    assert site.counts["refused"] == {why: 1}


def test_a_restart_continues_and_the_end_of_the_section_ends_all(
    make: Callable[..., Site],
) -> None:
    site = make()
    site.member.take([], [by_hand(), forgeable()])
    site.start()
    assert set(site.member.query(compare=True).held) == {A, B}
    site.config = site.config.model_copy(update={"fleet": Config().fleet})
    site.start()
    assert site.fleet() == set()
    with Ledger(site.config.paths.ledger) as ledger:
        assert held.active(ledger, time.time()) == []


def test_a_place_is_kept_for_those_by_hand(make: Callable[..., Site]) -> None:
    site = make(max_alive=8)
    bounds = site.member.query(compare=True).bounds
    assert (bounds.room, bounds.credit, bounds.reserve) == (6, 8, 2)
    site.member.take([], [by_hand(), forgeable()])
    bounds = site.member.query(compare=True).bounds
    assert (bounds.room, bounds.credit) == (5, 6)


def test_what_is_unblocked_here_by_hand_is_named_until_its_time_is_over(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()
    site.member.take([], [by_hand(), forgeable()])
    site.member.query(compare=False)
    site.weighed.released(parse_source(A))
    query = site.member.query(compare=True)
    assert (query.lifted, set(query.held)) == ([A], {B})
    assert list(site.exchange.drop({"member": "crowdsec"})) == [{"count": 1}]
    assert set(site.member.query(compare=True).lifted) == {A, B}
    later = time.monotonic() + 3601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert site.member.query(compare=True).lifted == []


def test_no_entry_is_exchanged_with_it(make: Callable[..., Site]) -> None:
    site = make()
    assert site.exchange.positions() == {}, "a hub has no stream of it"
    for request in (site.exchange.incoming({"entries": []}), site.exchange.outgoing({"after": 0})):
        with pytest.raises(SentryError, match="no fleet"):
            next(request)
    with Ledger(site.config.paths.ledger) as ledger:
        assert not outbox.is_enabled(ledger)
    assert site.exchange.is_on
    assert site.exchange.status()["crowdsec"]["member"] == "crowdsec"


def test_what_is_not_taken_is_counted_and_reported(make: Callable[..., Site]) -> None:
    site = make()
    site.member.count({"echo": 2, "scope": 1})
    site.member.count({"echo": 1})
    assert site.counts["refused"] == {"echo": 3, "scope": 1}
    assert [kind for kind, _ in site.notes] == ["fleet-refused"]


def test_the_comparisons_of_a_short_time_are_more(make: Callable[..., Site]) -> None:
    assert make().member.compare_s == 3600
    assert make(max_time="10m").member.compare_s == 150
