"""The comparison of known blocks with the kernel's, without a kernel."""

from sentryfw.guard.block_index import BlockIndex, Expiry
from sentryfw.guard.compare import Comparison, compare
from sentryfw.netfilter.sets.elements import KEYS_PER_DATAGRAM

NOW = 1000.0
HOUR = 3600.0
ACTIVE: Expiry = (HOUR, NOW + 60)
KEYS = [number.to_bytes(4) for number in range(1, 7)]


class FakeSets:
    """Block sets that are a dict, and count the lookups."""

    def __init__(self, elements: dict[bytes, Expiry]) -> None:
        self.elements = elements
        self.lookups: list[tuple[str, int]] = []

    def find(self, name: str, keys: list[bytes]) -> dict[bytes, Expiry]:
        self.lookups.append((name, len(keys)))
        return {key: self.elements[key] for key in keys if key in self.elements}


def _compare(known: dict[bytes, Expiry], kernel: dict[bytes, Expiry]) -> Comparison:
    ends = BlockIndex()
    for key, expiry in known.items():
        ends[key] = expiry
    return compare(ends, FakeSets(kernel), bool, lambda: NOW)


def test_equal_sides_do_not_differ() -> None:
    known = dict.fromkeys(KEYS, ACTIVE)
    assert _compare(known, known) == Comparison(found={"block4": len(KEYS), "block6": 0})


def test_an_active_block_that_the_kernel_lacks_is_missing() -> None:
    permanent = (0.0, 0.0)
    found = _compare({KEYS[0]: ACTIVE, KEYS[1]: permanent}, {})
    assert sorted(found.missing) == KEYS[:2]
    assert found.ended == []


def test_an_ended_block_that_the_kernel_lacks_has_ended() -> None:
    found = _compare({KEYS[0]: (HOUR, NOW), KEYS[1]: (HOUR, NOW + 0.5)}, {})
    assert found.ended == [KEYS[0]]
    assert found.missing == []


def test_the_kernel_may_differ_by_a_second() -> None:
    kernel = {
        KEYS[0]: (HOUR, ACTIVE[1] + 1),
        KEYS[1]: (HOUR, ACTIVE[1] + 1.5),
        KEYS[2]: (HOUR + 1, ACTIVE[1]),
    }
    found = _compare(dict.fromkeys(KEYS[:3], ACTIVE), kernel)
    assert found.moved == {key: (ACTIVE, kernel[key]) for key in KEYS[1:3]}


def test_lookups_are_small_and_by_set() -> None:
    ends = BlockIndex()
    for number in range(1000):
        ends[number.to_bytes(4)] = ACTIVE
        ends[number.to_bytes(16)] = ACTIVE
    sets = FakeSets(dict(ends.items()))
    pauses: list[int] = []
    found = compare(ends, sets, lambda: pauses.append(1), lambda: NOW)
    assert found.found == {"block4": 1000, "block6": 1000}
    assert max(count for _, count in sets.lookups) <= KEYS_PER_DATAGRAM
    assert len(pauses) == len(sets.lookups)
