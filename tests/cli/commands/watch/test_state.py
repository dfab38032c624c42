"""The state that watch shows: errors, counts and rates."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli.commands.watch import state
from sentryfw.cli.commands.watch.state import StateReader, total
from sentryfw.config.model import Config
from sentryfw.errors import NotInstalled


class FakeSets:
    """The sets of a table with two blocks."""

    def count_blocked(self) -> dict[str, int]:
        return {"block4": 2}


class FakeTable:
    sets = FakeSets()

    def is_switched_off(self) -> bool:
        return False

    def is_installed(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path) -> Config:
    paths = {"state": tmp_path, "runtime": tmp_path, "log": tmp_path}
    return Config.model_validate({"paths": paths})


def reader(config: Config) -> StateReader:
    table: Any = FakeTable()
    return StateReader(config, table)


def test_an_error_is_part_of_the_view(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise NotInstalled("SentryFW is not installed")

    monkeypatch.setattr(state.watch, "parts", fail)
    view = reader(config).read()
    assert (view.fault, view.code) == ("SentryFW is not installed", NotInstalled.exit_code)
    assert (view.daemon, view.blocked, list(view.blocks)) == ({}, None, [])


def test_rates_are_the_difference_to_the_last_reading(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter((100, 130, 10))
    clock = itertools.count()
    monkeypatch.setattr(state.time, "monotonic", lambda: float(next(clock)))

    def parts(*_: object) -> list[dict[str, Any]]:
        return [{"head": {"divert": "queue", "counters": {"judged": next(judged)}}}]

    monkeypatch.setattr(state.watch, "parts", parts)
    made = reader(config)
    first, second, third = (made.read() for _ in range(3))
    assert first.rates == {}
    assert second.rates["judged"] > 0
    assert third.rates["judged"] == 0, "the counters of a new table begin at 0"
    assert list(third.probes) == [second.rates["judged"], 0.0]
    assert first.blocked == 2


def test_total_adds_the_known_counters() -> None:
    assert total({"a": 1.0, "b": 2.5}, ("a", "b", "missing")) == 3.5
