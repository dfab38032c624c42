"""The effects of entries on the kernel; the rest is in test_exchange.py."""

import math
from ipaddress import ip_network

import pytest

from sentryfw.daemon.fleet.effects import Left, is_network, left_of, next_uncovered
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


@pytest.mark.parametrize(
    ("networks", "seconds"),
    [
        ({}, math.inf),
        ({"192.0.2.0/24": 60, "198.51.100.0/24": 30}, math.inf),
        ({"192.0.2.0/24": 60, "192.0.2.0/25": 60}, math.inf),
        ({"192.0.2.0/24": 0, "192.0.2.0/25": 0}, math.inf),
        ({"192.0.2.0/24": 60, "192.0.2.0/25": 90}, 60),
        ({"192.0.2.0/24": 60, "192.0.2.128/25": 0}, 60),
        ({"192.0.2.0/24": 60, "192.0.2.0/25": 90, "2001:db8::/32": 9, "2001:db8:1::/48": 10}, 9),
        ({"192.0.0.0/16": 60, "192.0.2.0/24": 30, "192.0.2.0/25": 50}, math.inf),
    ],
)
def test_the_end_of_a_network_is_due_where_one_within_it_goes_on(
    networks: dict[str, float], seconds: float
) -> None:
    assert next_uncovered({ip_network(text): end for text, end in networks.items()}) == seconds


def test_a_network_is_not_a_64() -> None:
    assert [is_network(text) for text in ("192.0.2.7", "192.0.2.0/24", "2001:db8::/64")] == [
        False, True, False,
    ]  # fmt: skip
    assert is_network("2001:db8::/48")
    assert not is_network("2001:db8::1")
