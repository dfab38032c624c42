"""The places of sources, by their number of targets."""

import pytest

from sentryfw.engine.model import Kind, Source
from sentryfw.engine.table import SourceState, SourceTable
from support.forge import packed

WINDOW = 300.0
SOURCE = Source(packed("198.51.100.7"))
V4 = packed("192.0.2.1")


def _state(at: float, *ports: int, kind: Kind = "syn", listed: bool = False) -> SourceState:
    state = SourceState(at)
    state.probes = len(ports)
    state.kinds = (kind,)
    for port in ports:
        state.targets[V4, 6, port] = (at, 0.5, kind, listed)
    return state


def _number(number: int) -> Source:
    return Source(number.to_bytes(4))


@pytest.mark.parametrize(("ports", "room"), [(1, 1 + 4), (2, 6), (3, 2)])
def test_only_sources_of_as_many_targets_push_others_out(ports: int, room: int) -> None:
    table = SourceTable(4, 8)
    for number, count in ((1, 1), (2, 2), (3, 3)):
        table.put(_number(number), _state(1.0, *range(count)), WINDOW)
    for number in range(10, 10 + 50 * room):
        table.put(_number(number), _state(2.0, *range(ports)), WINDOW)
    left = [number for number in (1, 2, 3) if table.get(_number(number)) is not None]
    assert left == [number for number in (1, 2, 3) if number != ports]
    assert table.pushed_out


def test_a_source_with_one_target_is_packed_and_comes_back() -> None:
    table = SourceTable(4, 64)
    table.put(SOURCE, _state(1.0, 22), WINDOW)
    for number in range(100):
        table.put(_number(number), _state(2.0, 22), WINDOW)
    assert len(table) == 101
    assert table.get(SOURCE) is table.take(SOURCE) is None
    back = table.take_packed(SOURCE)
    assert back is not None
    assert back.target == (V4, 6, 22)
    assert len(table) == 100


def test_a_lone_source_is_packed_where_the_place_is_full() -> None:
    table = SourceTable(4, 64)
    table.put(SOURCE, _state(1.0, 22), WINDOW, is_lone=True)
    for number in range(100):
        table.put(_number(number), _state(2.0, 22), WINDOW, is_lone=True)
    assert len(table) == 101
    assert table.get(SOURCE) is not None
    table.put(_number(200), _state(2.0, 22, 23), WINDOW, is_lone=True)
    assert table.get(_number(200)) is not None
    back = table.take_packed(_number(99))
    assert back is not None
    assert back.target == (V4, 6, 22)


@pytest.mark.parametrize("others", [0, 100], ids=["whole", "packed"])
def test_a_forgotten_source_is_nowhere(others: int) -> None:
    table = SourceTable(4, 64)
    table.put(SOURCE, _state(1.0, 22), WINDOW)
    for number in range(others):
        table.put(_number(number), _state(2.0, 22), WINDOW)
    table.forget(SOURCE)
    assert table.take(SOURCE) is table.take_packed(SOURCE) is None
    assert len(table) == others


def test_quiet_sources_are_forgotten_within_a_budget() -> None:
    table = SourceTable(4, 800)
    for number in range(60):
        table.put(_number(number), _state(float(number), *range(number % 3 + 1)), WINDOW)
    table.expire(29.0, budget=5)
    assert len(table) == 45
    table.expire(29.0, budget=50)
    assert len(table) == 30
