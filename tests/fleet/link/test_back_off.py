"""Delays between attempts to reach the hub."""

import itertools

from sentryfw.fleet.link.back_off import FIRST_S, LONGEST_S, HubBackOff


def test_delays_double_up_to_a_bound_and_begin_again_after_a_success() -> None:
    longest = HubBackOff(lambda: 1.0)
    delays = [longest.delay() for _ in range(12)]
    assert delays[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert delays[-1] == LONGEST_S == max(delays)
    longest.succeeded()
    assert longest.delay() == FIRST_S


def test_members_that_lost_the_hub_together_do_not_come_back_together() -> None:
    numbers = itertools.cycle([0.0, 0.5, 0.999])
    found = set()
    for _ in range(3):
        back_off = HubBackOff(lambda: next(numbers))
        found.add(back_off.delay())
    assert len(found) == 3
    assert all(FIRST_S / 2 <= delay < FIRST_S for delay in found)
