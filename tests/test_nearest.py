"""Sources near their trigger: which come first, what is said of them, and what it costs."""

import time
from ipaddress import IPv4Address

import pytest

from sentryfw import nearest
from sentryfw.config import Config
from sentryfw.engine.model import Kind, Probe, Source, parse_source
from sentryfw.engine.track import Tracker
from sentryfw.errors import SentryError

HOST = IPv4Address("198.18.0.1").packed
NOW = 100_000.0


def tracker(max_sources: int = 65536) -> Tracker:
    return Tracker(Config().horizons(), max_sources)


def probe(held: Tracker, source: str, *ports: int, at: float = NOW, kind: Kind = "syn") -> None:
    for port in ports:
        held.observe(Probe(parse_source(source), (HOST, 6, port), kind), at)


def near(held: Tracker, top: int = 10) -> list[dict[str, object]]:
    return list(nearest.items(nearest.snapshot(held, NOW), top))


def test_the_nearest_to_its_trigger_comes_first() -> None:
    held = tracker()
    probe(held, "192.0.2.1", 1)
    probe(held, "192.0.2.2", 1, 2)
    probe(held, "192.0.2.3", 1, kind="icmp")
    found = [(item["address"], item["progress"]) for item in near(held)]
    assert found == [("192.0.2.2", 0.667), ("192.0.2.1", 0.333), ("192.0.2.3", 0.1)]


def test_an_item_tells_what_an_operator_asks() -> None:
    held = tracker()
    probe(held, "192.0.2.1", 22, at=NOW - 60)
    probe(held, "192.0.2.1", 22, 23, at=NOW - 5)
    assert near(held) == [
        {"address": "192.0.2.1", "progress": 0.667, "horizon": "window", "targets": 2, "probes": 3,
         "kinds": ["syn"], "last": "198.18.0.1 tcp/23", "first_s": 60.0, "idle_s": 5.0}
    ]  # fmt: skip


@pytest.mark.parametrize("ages", [[0], [0, 10], [400], [400, 500, 600], [0, 400], [100_000]])
def test_the_progress_is_the_engines_own_score(ages: list[float]) -> None:
    held = tracker()
    for port, age in enumerate(sorted(ages, reverse=True), 1):
        evidence = held.observe(Probe(parse_source("192.0.2.1"), (HOST, 6, port), "syn"), NOW - age)
    assert evidence is not None
    [item] = near(held)
    if min(ages) == 0:  # else the engine would weigh anew
        score = max(evidence.score, evidence.slow_score)
        assert item["progress"] == pytest.approx(score, abs=0.001)
    fast = sum(1 / 3 for age in ages if age <= 300)
    slow = sum(1 / 6 for age in ages if age <= 86400)
    assert item["progress"] == pytest.approx(max(fast, slow), abs=0.001)


def test_a_flood_hides_nobody_and_is_not_weighed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    held = tracker()
    probe(held, "192.0.2.1", 1, 2)
    for number in range(70_000):
        source = Source((0x0B000000 + number).to_bytes(4))
        held.observe(Probe(source, (HOST, 6, 80), "syn"), NOW)
    started = time.perf_counter()
    seen = nearest.snapshot(held, NOW)
    assert time.perf_counter() - started < 0.1  # the loop waits for that; 10 ms, undisturbed
    weighed = []
    monkeypatch.setattr(
        nearest, "_item", lambda *a, _item=nearest._item: weighed.append(1) or _item(*a)
    )
    found = list(nearest.items(seen, 5))
    assert (found[0]["address"], len(found)) == ("192.0.2.1", 5)
    assert len(weighed) == nearest.CANDIDATES


@pytest.mark.parametrize("top", [0, -1, nearest.MAX_TOP + 1, 1.5, "5", True, None, [5]], ids=repr)
def test_how_many_is_bounded(top: object) -> None:
    with pytest.raises(SentryError, match="from 1 to 100"):
        nearest.wanted(top)
