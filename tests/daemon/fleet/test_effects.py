"""The effects of entries on the kernel; the rest is in test_exchange.py."""

import math

from sentryfw.daemon.fleet.effects import Left, is_network, left_of
from sentryfw.fleet.admission import Alive, Member, Standing


def test_the_longest_block_of_all_members_counts() -> None:
    standings = {name: Standing(Member(), 0.0) for name in ("fw1", "fw2", "fw3")}
    assert left_of("192.0.2.7", standings, 10) is None
    standings["fw1"].alive["192.0.2.7"] = Alive("block", 60)
    standings["fw2"].alive["192.0.2.7"] = Alive("block", 100)
    standings["fw3"].alive["192.0.2.7"] = Alive("weigh", 500)
    assert left_of("192.0.2.7", standings, 10) == Left(90, cut=False)
    assert left_of("192.0.2.7", standings, 100) is None
    standings["fw1"].alive["192.0.2.7"] = Alive("block", math.inf)
    assert left_of("192.0.2.7", standings, 10) == Left(0, cut=False)


def test_one_member_s_proof_is_enough_to_end_live_flows() -> None:
    standings = {name: Standing(Member(), 0.0) for name in ("fw1", "fw2", "fw3")}
    standings["fw1"].alive["192.0.2.7"] = Alive("block", 100)
    standings["fw2"].alive["192.0.2.7"] = Alive("show", 100, cut=True)
    assert left_of("192.0.2.7", standings, 10) == Left(90, cut=False), "shown alone cuts nothing"
    standings["fw3"].alive["192.0.2.7"] = Alive("block", 60, cut=True)
    assert left_of("192.0.2.7", standings, 10) == Left(90, cut=True)


def test_a_network_is_not_a_64() -> None:
    assert [is_network(text) for text in ("192.0.2.7", "192.0.2.0/24", "2001:db8::/64")] == [
        False, True, False,
    ]  # fmt: skip
    assert is_network("2001:db8::/48")
    assert not is_network("2001:db8::1")
