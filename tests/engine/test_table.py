"""The places of sources: by their number of targets, and packed into one buffer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import KINDS, Kind, Source
from sentryfw.engine.table import PackedSources, SourceState, SourceTable
from support.forge import packed

WINDOW = 300.0
SOURCE = Source(packed("198.51.100.7"))
V4, V6 = packed("192.0.2.1"), packed("2001:db8::1")


def _state(at: float, *ports: int, kind: Kind = "syn", listed: bool = False) -> SourceState:
    state = SourceState(at)
    state.probes = len(ports)
    state.kinds = (kind,)
    for port in ports:
        state.targets[V4, 6, port] = (at, 0.5, kind, listed)
    return state


def _number(number: int) -> Source:
    return Source(number.to_bytes(4))


@given(
    st.sampled_from([V4, V6]), st.integers(0, 255), st.integers(0, 65535),
    st.sampled_from(KINDS), st.booleans(), st.integers(0, 86400), st.integers(1, 1 << 20),
    st.binary(min_size=8, max_size=16),
)  # fmt: skip
def test_a_packed_source_comes_back_as_it_was(
    address: bytes, protocol: int, port: int, kind: Kind, listed: bool,  # noqa: FBT001 - hypothesis
    age: int, probes: int, source: bytes,
) -> None:  # fmt: skip
    state = SourceState(1e6 - age)
    state.last_seen = 1e6
    state.probes = probes
    state.targets[address, protocol, port] = (1e6, 0.5, kind, listed)
    buffer = PackedSources(len(address), 64)
    buffer.add(Source(source), state, WINDOW)
    assert buffer.count == 1
    back = buffer.take(Source(source))
    assert back is not None
    assert (back.first_seen, back.last_seen) == (1e6 - age, 1e6)
    assert back.probes == min(probes, 0xFFFF)
    assert back.kinds == (kind,)
    assert back.targets == {(address, protocol, port): (1e6, 0.0, kind, listed)}
    assert buffer.take(Source(source)) is None
    assert buffer.count == 0


def test_a_probe_of_before_the_restart_is_packed() -> None:
    buffer = PackedSources(4, 64)
    buffer.add(_number(1), _state(10.0, 22), WINDOW)
    buffer.add(_number(2), _state(-80000.0, 22), WINDOW)
    old = buffer.take(_number(2))
    assert old is not None
    assert old.last_seen == -80000.0


def test_the_buffer_is_allocated_when_it_is_needed_and_freed_when_all_is_old() -> None:
    buffer = PackedSources(4, 1 << 20)
    assert not buffer._bytes
    assert buffer.take(SOURCE) is None
    buffer.add(SOURCE, _state(10.0, 22), WINDOW)
    assert len(buffer._bytes) > 1 << 24
    buffer.expire(9.9)
    assert buffer.count == 1
    buffer.expire(10.0)
    assert buffer.count == 0
    assert not buffer._bytes


def test_a_full_bucket_gives_up_the_source_that_was_quiet_longest() -> None:
    buffer = PackedSources(4, 8)  # one bucket
    lost = [buffer.add(_number(n), _state(float(n), 22), WINDOW) for n in range(1, 9)]
    assert not any(lost)
    assert buffer.add(_number(9), _state(9.0, 22), WINDOW)
    assert not buffer.add(_number(10), _state(400.0, 22), WINDOW)  # older than the window
    assert buffer.take(_number(1)) is buffer.take(_number(2)) is None
    assert buffer.take(_number(3)) is not None
    assert buffer.count == 7


def test_the_buffer_keeps_as_many_as_five_minutes_bring() -> None:
    slots, rate = 1 << 14, 2000 * (1 << 14) / (1 << 20)
    buffer = PackedSources(4, slots)
    numbers = range(int(rate * 1800))
    young = sum(buffer.add(_number(n), _state(n / rate, 22), WINDOW) for n in numbers)
    assert young < len(numbers) / 100


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
    assert list(back.targets) == [(V4, 6, 22)]
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
    assert list(back.targets) == [(V4, 6, 22)]


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
