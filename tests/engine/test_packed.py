"""Sources with one target, packed into a ring of records."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import KINDS, Kind, Source
from sentryfw.engine.packed import MAX_IN_BUCKET, PackedSource, PackedSources
from support.forge import packed

WINDOW = 300.0
SOURCE = Source(packed("198.51.100.7"))
V4, V6 = packed("192.0.2.1"), packed("2001:db8::1")


def _number(number: int) -> Source:
    return Source(number.to_bytes(4))


def _add(ring: PackedSources, source: Source, at: float, port: int = 22) -> int:
    return ring.add(source, (V4, 6, port), "syn", at, at, WINDOW, listed=False, probes=1)


@given(
    st.sampled_from([V4, V6]), st.integers(0, 255), st.integers(0, 65535),
    st.sampled_from(KINDS), st.booleans(), st.integers(0, 86400), st.integers(1, 1 << 20),
    st.binary(min_size=8, max_size=16),
)  # fmt: skip
def test_a_packed_source_comes_back_as_it_was(
    address: bytes, protocol: int, port: int, kind: Kind, listed: bool,  # noqa: FBT001 - hypothesis
    age: int, probes: int, source: bytes,
) -> None:  # fmt: skip
    ring = PackedSources(len(address), 64)
    target = (address, protocol, port)
    ring.add(Source(source), target, kind, 1e6 - age, 1e6, WINDOW, listed=listed, probes=probes)
    assert ring.count == 1
    assert ring.take(Source(source)) == PackedSource(
        target, kind, listed, min(probes, 0xFFFF), 1e6 - age, 1e6
    )
    assert ring.take(Source(source)) is None
    assert ring.count == 0


def test_a_probe_of_before_the_restart_is_packed() -> None:
    ring = PackedSources(4, 64)
    _add(ring, _number(1), 10.0)
    _add(ring, _number(2), -80000.0)
    old = ring.take(_number(2))
    assert old is not None
    assert old.last_seen == -80000.0


def test_memory_is_allocated_when_it_is_needed_and_freed_when_all_is_old() -> None:
    ring = PackedSources(4, 1 << 20)
    assert len(ring._ring) == 0
    assert ring.take(SOURCE) is None
    _add(ring, SOURCE, 10.0)
    assert len(ring._ring) > 1 << 24
    ring.expire(9.9)
    assert ring.count == 1
    ring.expire(10.0)
    assert ring.count == 0
    assert len(ring._ring) == 0
    _add(ring, SOURCE, 20.0)
    assert ring.take(SOURCE) is not None


def test_full_buckets_give_up_what_was_packed_longest_ago() -> None:
    """With any hashes a source keeps its slot until its bucket has come round."""
    ring = PackedSources(4, 16)  # two buckets
    lost = sum(_add(ring, _number(n), float(n)) for n in range(1, 201))
    assert ring.count + lost == 200
    assert ring.count <= 2 * MAX_IN_BUCKET
    assert all(ring.take(_number(n)) is not None for n in range(201 - MAX_IN_BUCKET, 201))
    assert not any(ring.take(_number(n)) for n in range(1, 201 - 16))


def test_a_source_that_is_older_than_the_window_is_given_up_without_a_count() -> None:
    ring = PackedSources(4, 16)
    for number in range(1, 2 * MAX_IN_BUCKET + 1):
        _add(ring, _number(number), float(number))
    assert sum(_add(ring, _number(n), 1000.0) for n in range(100, 100 + MAX_IN_BUCKET)) == 0


@pytest.mark.parametrize("bytes_of_address", [4, 16])
def test_a_full_ring_overwrites_the_oldest_record(bytes_of_address: int) -> None:
    ring = PackedSources(bytes_of_address, 1 << 12)
    target = (bytes(bytes_of_address), 6, 22)
    added, lost = 3 << 12, 0
    for n in range(added):
        at = n / 100
        lost += ring.add(_number(n), target, "syn", at, at, 1e6, listed=False, probes=1)
    assert ring.count == added - lost
    found = [n for n in range(added) if ring.take(_number(n)) is not None]
    assert len(found) == added - lost
    assert found[0] >= 2 << 12
    assert len(found) > 3 << 10
    assert ring.count == 0


def test_the_ring_keeps_as_many_as_five_minutes_bring() -> None:
    slots, rate = 1 << 14, 2000 * (1 << 14) / (1 << 20)
    ring = PackedSources(4, slots)
    numbers = range(int(rate * 1800))
    young = sum(_add(ring, _number(n), n / rate) for n in numbers)
    assert young < len(numbers) / 100


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=400))
def test_it_is_a_table_that_forgets(steps: list[tuple[bool, int]]) -> None:
    """Against a dictionary: it forgets, and counts what; it never invents, mixes up or keeps."""
    ring = PackedSources(4, 16)
    model: OrderedDict[Source, int] = OrderedDict()
    for port, (adds, number) in enumerate(steps, 1):
        source = _number(number)
        found = ring.take(source)
        if found is None:
            model.pop(source, None)
        else:
            assert found.target == (V4, 6, model.pop(source))
        if adds:
            _add(ring, source, float(port), port)
            model[source] = port
        assert ring.count <= len(model)
    for source, port in model.items():
        found = ring.take(source)
        assert found is None or found.target == (V4, 6, port)
    assert ring.count == 0
