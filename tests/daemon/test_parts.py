"""Parts of the daemon that are built without a kernel."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sentryfw import config as sentryfw_config
from sentryfw.config.model import Config
from sentryfw.daemon import parts
from sentryfw.daemon.packet_path import clock
from sentryfw.daemon.parts import (
    block_checker,
    make_engine,
    make_recent,
    make_responder,
    open_capture_store,
    restore,
    restore_reactions,
    seconds_left,
)
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NO_NETWORKS
from sentryfw.errors import SentryError
from sentryfw.guard.block_index import BlockIndex
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import ProbeRecord, list_entry, manual_entry

SCANNER = "192.0.2.1"


def config(home: Path, text: str = "") -> Config:
    paths = f'[paths]\nstate = "{home}"\nruntime = "{home}"\nlog = "{home}"\n'
    return sentryfw_config.parse(f"{paths}{text}".encode(), "test")


def guard(**blocks: float) -> Any:
    """Return a guard that knows blocks: address -> seconds left of an hour."""
    ends = BlockIndex()
    for name, left in blocks.items():
        ends[bytes(parse_source(name.replace("_", ".").lstrip("a")))] = (3600.0, clock() + left)
    return SimpleNamespace(memory=SimpleNamespace(ends=ends))


def test_an_engine_judges_the_inside_only_where_it_is_configured(tmp_path: Path) -> None:
    assert len(make_engine(config(tmp_path), NO_NETWORKS).zones.all) == 1
    _, inside = make_engine(config(tmp_path, '[watch]\ninside = ["lan0"]'), NO_NETWORKS).zones.all
    assert (inside.name, inside.is_inside, inside.observes) == ("inside", True, True)


def test_without_reactions_the_responder_is_not_needed(tmp_path: Path) -> None:
    recorder: Any = SimpleNamespace(learnt=None, reaction=None)
    assert not make_responder(config(tmp_path), recorder, NO_NETWORKS).is_needed
    wanted = config(tmp_path, '[respond.command]\nargv = ["/bin/true"]')
    assert make_responder(wanted, recorder, NO_NETWORKS).is_needed


def test_the_block_checker_opens_one_table_at_its_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables: list[object] = []

    class FakeTable:
        def __init__(self) -> None:
            tables.append(self)
            self.sets = SimpleNamespace(is_blocked=lambda source: source == parse_source(SCANNER))

    monkeypatch.setattr(parts, "Table", FakeTable)
    is_blocked = block_checker()
    assert tables == []
    assert is_blocked(SCANNER)
    assert not is_blocked("192.0.2.2")
    assert len(tables) == 1


def test_packets_are_remembered_only_where_they_can_be_kept(tmp_path: Path) -> None:
    wanted = config(tmp_path)
    store = open_capture_store(wanted)
    assert store is not None
    assert make_recent(wanted, store)._packets == wanted.evidence.packets
    assert make_recent(wanted, None)._packets == 0
    assert open_capture_store(config(tmp_path, "[evidence]\npackets = 0")) is None


def test_a_place_without_room_for_packets_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = config(tmp_path)
    wanted.paths.evidence.touch()
    assert open_capture_store(wanted) is None
    assert "the packets behind blocks are not kept" in caplog.text


def test_seconds_left_are_those_of_each_block() -> None:
    [(address, left)] = seconds_left(guard(a192_0_2_1=60.0)).items()
    assert address == SCANNER
    assert left == pytest.approx(60.0, abs=1.0)


class FakeLedger:
    """A ledger with one recent probe, one from the future, and offences."""

    def __init__(self) -> None:
        now = time.time()
        self._probes = [
            ProbeRecord(SCANNER, now - 5, "syn", listed=False, target="198.18.0.1 tcp/22"),
            ProbeRecord("192.0.2.2", now + 3600, "syn", listed=False, target="198.18.0.1 tcp/22"),
        ]

        self.database = SimpleNamespace(iterate=lambda *_: iter(()))  # no list was imported

    def probes(self, since: float) -> list[ProbeRecord]:
        return [probe for probe in self._probes if probe.at >= since]

    def offences(self, limit: int) -> dict[str, int]:
        assert limit > 0
        return {"192.0.2.3": 2}


def restored(wanted: Config, known: Any) -> tuple[Any, Any]:
    engine = make_engine(wanted, NO_NETWORKS)
    blocked: list[dict[str, float]] = []
    mirrored = SimpleNamespace(need_proof=False)
    responder: Any = SimpleNamespace(
        is_needed=True, restore=lambda active, _: blocked.append(active), mirrored=mirrored
    )
    ledger: Any = FakeLedger()
    restore(SimpleNamespace(engine=engine, responder=responder), known, ledger, wanted)
    return engine, blocked


def test_pending_probes_offences_and_blocks_are_restored(tmp_path: Path) -> None:
    engine, [blocked] = restored(config(tmp_path), guard(a192_0_2_9=60.0))
    assert engine.tracker.get(parse_source(SCANNER)).probes == 1
    assert engine.tracker.get(parse_source("192.0.2.2")) is None  # recorded by a later clock
    assert engine.decider._offences[parse_source("192.0.2.3")] == 2
    assert blocked.keys() == {"192.0.2.9"}


def test_more_blocks_than_the_limit_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = config(tmp_path, "[block]\nmax_elements = 1")
    restored(wanted, guard(a192_0_2_8=60.0, a192_0_2_9=60.0))
    assert "2 sources are blocked, more than [block] max_elements = 1" in caplog.text


def test_the_queue_is_bound_first_and_unbound_if_the_start_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class FakeQueue:
        def __init__(self, *_: object) -> None:
            calls.append("bound")

        def close(self) -> None:
            calls.append("unbound")

    def fail(*_: object) -> None:
        calls.append("ledger")
        raise SentryError("no disk")

    monkeypatch.setattr(parts, "PacketQueue", FakeQueue)
    monkeypatch.setattr(parts, "ResilientLedger", fail)
    with pytest.raises(SentryError, match="no disk"):
        parts.build_parts(config(tmp_path))
    assert calls == ["bound", "ledger", "unbound"]


# --- the blocks that reactions get


class Mirroring:
    """Reactions that note the blocks that they get."""

    def __init__(self, *, need_proof: bool, proven: tuple[str, ...] = ()) -> None:
        self.is_needed = True
        self.mirrored = SimpleNamespace(need_proof=need_proof, proven=set(proven))
        self.given: Any = None

    def restore(self, active: dict[str, float], proven: set[str]) -> None:
        self.given = (active, proven)


@pytest.fixture
def recorded(tmp_path: Path) -> Config:
    wanted = config(tmp_path)
    now = time.time()
    with Ledger(wanted.paths.ledger) as ledger:
        ledger.add([list_entry("drop", "192.0.2.1", 60.0, now)])
        ledger.add([manual_entry("192.0.2.2", 4, 60.0, now)])
    return wanted


ACTIVE = {"192.0.2.1": 60.0, "192.0.2.2": 60.0, "192.0.2.3": 60.0}


def test_imported_lists_are_not_mirrored_and_the_ledger_knows_the_proof(recorded: Config) -> None:
    old: Any = Mirroring(need_proof=False)
    new: Any = Mirroring(need_proof=True)
    restore_reactions(recorded, dict(ACTIVE), old, new)
    assert new.given == ({"192.0.2.2": 60.0, "192.0.2.3": 60.0}, {"192.0.2.2"})


def test_a_proven_block_that_is_not_in_the_ledger_yet_is_kept(recorded: Config) -> None:
    old: Any = Mirroring(need_proof=True, proven=("192.0.2.3",))
    new: Any = Mirroring(need_proof=True)
    restore_reactions(recorded, dict(ACTIVE), old, new)
    assert new.given[1] == {"192.0.2.3"}


def test_a_ledger_that_cannot_be_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = config(tmp_path)
    wanted.paths.ledger.parent.mkdir(parents=True, exist_ok=True)
    wanted.paths.ledger.write_bytes(b"x" * 4096)
    new: Any = Mirroring(need_proof=True)
    restore_reactions(wanted, dict(ACTIVE), cast("Any", Mirroring(need_proof=False)), new)
    assert new.given == (ACTIVE, set())
    assert "is not known" in caplog.text
