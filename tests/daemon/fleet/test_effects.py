"""The effects of entries on the kernel; the rest is in test_exchange.py."""

import math

from sentryfw.daemon.fleet.effects import _seconds_left
from sentryfw.fleet.admission import Alive, Member, Standing


def test_the_longest_block_of_all_members_counts() -> None:
    standings = {name: Standing(Member(), 0.0) for name in ("fw1", "fw2", "fw3")}
    assert _seconds_left("192.0.2.7", standings, 10) is None
    standings["fw1"].alive["192.0.2.7"] = Alive("block", 60)
    standings["fw2"].alive["192.0.2.7"] = Alive("block", 100)
    standings["fw3"].alive["192.0.2.7"] = Alive("weigh", 500)
    assert _seconds_left("192.0.2.7", standings, 10) == 90
    assert _seconds_left("192.0.2.7", standings, 100) is None
    standings["fw1"].alive["192.0.2.7"] = Alive("block", math.inf)
    assert _seconds_left("192.0.2.7", standings, 10) == 0
