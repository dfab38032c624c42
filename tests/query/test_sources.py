"""Sources near their trigger: their order, their fields, and the cost of a flood."""

import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import Kind, Probe, Source, parse_source
from sentryfw.engine.track import Tracker
from sentryfw.errors import SentryError
from sentryfw.query import sources
from sentryfw.record.ledger import Ledger
from support.entries import REFUSAL

HOST = IPv4Address("198.18.0.1").packed
NOW = 100_000.0


def tracker(max_sources: int = 65536) -> Tracker:
    return Tracker(Config().horizons(), max_sources)


def probe(held: Tracker, source: str, *ports: int, at: float = NOW, kind: Kind = "syn") -> None:
    for port in ports:
        held.observe(Probe(parse_source(source), (HOST, 6, port), kind), at)


def near(held: Tracker, top: int = 10) -> list[dict[str, object]]:
    return list(sources.nearest(sources.snapshot(held, NOW), top))


def test_the_nearest_to_its_trigger_comes_first() -> None:
    held = tracker()
    probe(held, "192.0.2.1", 1)
    probe(held, "192.0.2.2", 1, 2)
    probe(held, "192.0.2.3", 1, kind="icmp")
    found = [(item["address"], item["progress"]) for item in near(held)]
    assert found == [("192.0.2.2", 0.667), ("192.0.2.1", 0.333), ("192.0.2.3", 0.1)]


def test_an_item_has_every_field() -> None:
    held = tracker()
    probe(held, "192.0.2.1", 22, at=NOW - 60)
    probe(held, "192.0.2.1", 22, 23, at=NOW - 5)
    assert near(held) == [
        {"address": "192.0.2.1", "progress": 0.667, "horizon": "window", "targets": 2, "probes": 3,
         "kinds": ["syn"], "last": "198.18.0.1 tcp/23", "first_s": 60.0, "idle_s": 5.0,
         "zone": ""}
    ]  # fmt: skip


@pytest.mark.parametrize("ages", [[0], [0, 10], [400], [400, 500, 600], [0, 400], [100_000]])
def test_the_progress_is_the_engines_own_score(ages: list[float]) -> None:
    held = tracker()
    for port, age in enumerate(sorted(ages, reverse=True), 1):
        evidence = held.observe(Probe(parse_source("192.0.2.1"), (HOST, 6, port), "syn"), NOW - age)
    assert evidence is not None
    [item] = near(held)
    if min(ages) == 0:  # else the engine would weigh again
        score = max(evidence.score, evidence.slow_score)
        assert item["progress"] == pytest.approx(score, abs=0.001)
    fast = sum(1 / 3 for age in ages if age <= 300)
    slow = sum(1 / 6 for age in ages if age <= 86400)
    assert item["progress"] == pytest.approx(max(fast, slow), abs=0.001)


@pytest.mark.serial
def test_a_flood_hides_no_source_and_is_not_weighed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    held = tracker()
    probe(held, "192.0.2.1", 1, 2)
    for number in range(70_000):
        source = Source((0x0B000000 + number).to_bytes(4))
        held.observe(Probe(source, (HOST, 6, 80), "syn"), NOW)
    started = time.perf_counter()
    seen = sources.snapshot(held, NOW)
    assert time.perf_counter() - started < 0.1  # the loop waits for that; 10 ms, undisturbed
    weighed = []
    monkeypatch.setattr(
        sources, "_item", lambda *a, _item=sources._item: weighed.append(1) or _item(*a)
    )
    found = list(sources.nearest(seen, 5))
    assert (found[0]["address"], len(found)) == ("192.0.2.1", 5)
    assert len(weighed) == sources.MAX_CANDIDATES


@pytest.mark.parametrize("top", [0, -1, sources.MAX_COUNT + 1, 1.5, "5", True, None, [5]], ids=repr)
def test_the_count_is_bounded(top: object) -> None:
    with pytest.raises(SentryError, match="from 1 to 100"):
        sources.requested_count(top)


def test_a_source_at_its_trigger_has_the_reason_of_its_last_refusal(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        old = REFUSAL._replace(address="198.18.0.9")
        ledger.add([old, old._replace(reason="observe")])
    item: Any = {"address": "198.18.0.9", "progress": 1.0}
    below: Any = {"address": "198.18.0.9", "progress": 0.9}
    other: Any = {"address": "198.18.0.8", "progress": 1.5}
    found = list(sources.with_refusals([item, below, other], tmp_path / "ledger.db"))
    assert [part["refused"] for part in found] == ["observe", "", ""]
    [alone] = sources.with_refusals([item], tmp_path / "missing.db")
    assert alone["refused"] == ""
