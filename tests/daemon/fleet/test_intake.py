"""Admission of entries of others: exempt sources, a table that fails, events about refusals."""

import errno
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet import intake as module
from sentryfw.daemon.fleet.intake import REPORT_INTERVAL_S, Intake, Surroundings, members_of
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.fleet.admission import Admitted, Rejected
from sentryfw.fleet.entry import Entry
from sentryfw.guard.block_index import KnownBlocks
from support.fake_table import FakeKernel, FakeTable

WALL = 1_800_000_000
GATEWAY = ip_network("198.51.100.1/32")
MEMBERS = {"fw1": {"key": "ab" * 32, "trust": "full"}}


def entry(seq: int, address: str) -> Entry:
    return Entry(
        op="block", member="fw1", seq=seq, network=ip_network(address), duration_s=60,
        evidence="proven", scan="decoy-scan", reason="why", at=WALL,
    )  # fmt: skip


class Made:
    """An intake of one member, on a table in memory."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []
        config = Config.model_validate({"fleet": {"name": "us", "members": MEMBERS}}).model_copy(
            update={"paths": Paths(state=state)}
        )
        self.kernel = FakeKernel()
        self.kernel.install()
        self.opened = 0
        monkeypatch.setattr(module, "Table", self._table)
        engine = Engine(config.horizons(), config.policy(NetworkIndex((GATEWAY,))))
        recorder: Any = self
        around = Surroundings(engine, KnownBlocks(), Weighed(), recorder)
        self.intake = Intake(config, around)

    def note(self, kind: str, **fields: Any) -> None:
        self.notes.append((kind, fields))

    def _table(self) -> FakeTable:
        self.opened += 1
        return FakeTable(self.kernel)

    def take(self, *entries: Entry) -> tuple[list[str], list[str]]:
        """Return the effects or reasons, and the faults."""
        with self.intake.open() as table:
            found = [self.intake.admission.admit(one, 0, WALL) for one in entries]
            admitted = [one for one in found if isinstance(one, Admitted)]
            faults = list(self.intake.apply(table, admitted, 0, WALL))
        return [one.reason if isinstance(one, Rejected) else one.effect for one in found], faults


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "address",
    ["198.51.100.1", "0.0.0.0/0", "198.51.100.0/24", "127.0.0.1", "224.0.0.5", "203.0.113.5"],
)
def test_what_is_exempt_here_wins_over_full_trust(made: Made, address: str) -> None:
    made.kernel.add("partner", "203.0.113.5")
    assert made.take(entry(1, address)) == (["never-block"], [])
    assert made.take(entry(2, "203.0.113.6")) == (["block"], []), "its neighbour is not"


def test_the_table_stays_open_until_it_fails(made: Made) -> None:
    made.take(entry(1, "203.0.113.6"))
    made.kernel.refuse(errno.ENFILE)
    effects, [fault] = made.take(entry(2, "203.0.113.7"))
    assert effects == ["block"]
    assert "the kernel did not take" in fault
    assert made.opened == 1
    made.take(entry(3, "203.0.113.8"))
    assert made.opened == 2


def test_the_guard_need_not_follow_the_table_s_changes_while_it_is_open(made: Made) -> None:
    ports = made.intake._around.memory.own_ports
    assert ports == set()
    with made.intake.open() as table:
        assert ports == {table.port}
    made.kernel.refuse(errno.ENFILE)
    made.take(entry(1, "203.0.113.7"))
    assert ports == set(), "another program may get the port of a socket that was closed"


def test_an_unblock_of_our_own_block_is_one_that_the_guard_follows(made: Made) -> None:
    FakeTable(made.kernel).sets.block([(parse_source("203.0.113.7"), 60.0)])
    made.take(entry(1, "203.0.113.7")._replace(op="unblock"))
    assert not FakeTable(made.kernel).sets.is_blocked(parse_source("203.0.113.7"))
    assert made.opened == 2, "by a socket that the guard does not take for its own"


@pytest.mark.parametrize("address", ["203.0.113.5", "2001:db8:5::/64"])
def test_partners_are_looked_up_at_once(made: Made, address: str) -> None:
    made.kernel.add("partner", address)
    given = [entry(1, address), entry(2, "203.0.113.6"), entry(3, "203.0.113.0/24")]
    with made.intake.open() as table:
        made.intake.look_up(table, given)
        found = [made.intake.admission.admit(one, 0, WALL) for one in given[:2]]
    assert found[0] == Rejected("never-block")
    assert isinstance(found[1], Admitted)
    assert made.take(entry(4, address)) == (["never-block"], []), "and asked for alone"


def test_refusals_are_reported_once_a_minute(made: Made) -> None:
    made.take(entry(1, "203.0.113.6"))
    for now, seq in ((100.0, 2), (101.0, 3), (100.0 + REPORT_INTERVAL_S, 4)):
        made.take(entry(seq, "198.51.100.1"))
        made.intake.refused += 1
        made.intake.report(now, {"bad-v": 1})
    said = [fields for kind, fields in made.notes if kind == "fleet-refused"]
    assert [fields["count"] for fields in said] == [1, 2]
    assert said[1]["members"] == {"fw1": {"never-block": 3}}
    assert said[1]["unreadable"] == {"bad-v": 1}


def test_where_nothing_is_blocked_every_member_is_shown() -> None:
    section = {"name": "us", "members": MEMBERS}
    for mode, trust in (("observe", "show"), ("block", "full")):
        config = Config.model_validate({"detect": {"mode": mode}, "fleet": section})
        assert members_of(config)["fw1"].trust == trust
