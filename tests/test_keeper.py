"""What follows from a look, where things have changed since."""

import asyncio
import time

import pytest

from sentryfw.compare import Look
from sentryfw.keeper import FORGOTTEN, Keeper
from sentryfw.memory import Ends, Memory

KEY = bytes((198, 51, 100, 1))
HOUR = 3600.0


@pytest.fixture
def keeper() -> Keeper:
    """Only its memory."""
    made = Keeper.__new__(Keeper)
    made.memory = Memory(Ends(), {})
    made._gone = set()
    return made


def _look() -> Look:
    return Look([], {}, [], {}, {})


def _follow(keeper: Keeper, look: Look) -> None:
    assert asyncio.run(keeper._follow_look(look)) == 0


def test_a_stranger_is_remembered(keeper: Keeper) -> None:
    look = _look()
    look.strangers[KEY] = (HOUR, HOUR)
    _follow(keeper, look)
    assert keeper.memory.ends.get(KEY) == (HOUR, HOUR)


def test_a_deletion_since_the_look_stays_one(keeper: Keeper) -> None:
    look = _look()
    look.strangers[KEY] = (HOUR, HOUR)
    keeper._gone.add(KEY)
    _follow(keeper, look)
    assert KEY not in keeper.memory.ends


@pytest.mark.parametrize(
    ("now", "then"),
    [((HOUR, 50.0), (HOUR, 90.0)), ((2 * HOUR, 70.0), (2 * HOUR, 70.0)), (None, None)],
    ids=["as-looked-at", "blocked-anew", "unblocked"],
)
def test_the_kernels_end_is_taken_unless_ours_is_newer(
    keeper: Keeper, now: tuple[float, float] | None, then: tuple[float, float] | None
) -> None:
    look = _look()
    look.moved[KEY] = (HOUR, 50.0), (HOUR, 90.0)
    if now is not None:
        keeper.memory.ends[KEY] = now
    _follow(keeper, look)
    assert keeper.memory.ends.get(KEY) == then


def test_what_is_over_is_forgotten_and_what_was_made_anew_is_not(keeper: Keeper) -> None:
    look, now = _look(), time.monotonic()
    for number in range(2 * FORGOTTEN):
        key = number.to_bytes(4)
        look.over.append(key)
        keeper.memory.ends[key] = (60.0, now + 60 if number == 7 else now - 1)
    keeper.memory.ends[KEY] = (0.0, 0.0)
    look.over.append(KEY)
    _follow(keeper, look)
    assert {key for key, _ in keeper.memory.ends.items()} == {(7).to_bytes(4), KEY}
