"""Decisions in the API's answers: what is taken, what is counted, and what changes here."""

import json
from collections import Counter
from ipaddress import IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.networks import Whole6
from sentryfw.respond.neighbours.decisions import (
    Bounds,
    Decision,
    HeldDecision,
    choose,
    compact,
    read,
    sources,
)

WHOLE6 = Whole6([IPv6Network("2001:db8:9::/64")])
BOUNDS = Bounds(max_s=14400.0, room=100, credit=100, renew_s=7200.0, reserve=10)
A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def item(value: object = A, **fields: Any) -> dict[str, Any]:
    """Return a decision as the API writes it."""
    made = {
        "id": 7, "origin": "cscli", "type": "ban", "scope": "Ip", "value": value,
        "duration": "1h0m0s", "scenario": "abuse", "simulated": False, "uuid": "x",
    }  # fmt: skip
    return {**made, **fields}


def parsed(value: object) -> Any:
    return json.loads(json.dumps(value), object_hook=compact)


def taken(*items: object) -> tuple[dict[str, Decision], Counter[str]]:
    return read(parsed(list(items)), WHOLE6)


def decision(address: str = A, seconds: float = 3600.0, **fields: Any) -> Decision:
    return Decision(address, seconds, True, "cscli", "abuse")._replace(**fields)


def forged(address: str = A, seconds: float = 3600.0, origin: str = "CAPI") -> Decision:
    return Decision(address, seconds, False, origin, "list")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("cscli", True), ("crowdsec", False), ("CAPI", False), ("lists", False),
     ("cscli-import", False), ("console", False), ("CSCLI", False), ("", False)],
)  # fmt: skip
def test_only_what_was_typed_at_the_apis_host_is_by_hand(origin: str, expected: object) -> None:
    found, refused = taken(item(origin=origin))
    assert found[A].by_hand is expected
    assert not refused


@pytest.mark.parametrize(
    ("scope", "value", "address"),
    [
        ("Ip", A, A), ("ip", A, A), ("Range", "192.0.2.0/24", "192.0.2.0/24"),
        ("Range", "192.0.2.7/24", "192.0.2.0/24"), ("Range", "192.0.2.7/32", "192.0.2.7"),
        ("Ip", "2001:db8:1:2::7", "2001:db8:1:2::/64"), ("Ip", "2001:db8:9::7", "2001:db8:9::7"),
        ("Range", "2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("Range", "2001:db8::/48", "2001:db8::/48"),
    ],
)  # fmt: skip
def test_a_source_is_written_as_this_program_does(scope: str, value: str, address: str) -> None:
    found, refused = taken(item(value, scope=scope))
    assert (list(found), dict(refused)) == ([address], {})


@pytest.mark.parametrize(
    ("given_item", "why"),
    [
        (item(origin="sentryfw"), "echo"), (item(type="captcha"), "not-a-ban"),
        (item(type="throttle"), "not-a-ban"), (item(simulated=True), "simulated"),
        (item("AQ", scope="Country"), "scope"), (item("64512", scope="AS"), "scope"),
        (item("alice", scope="username"), "scope"),
        (item("0.0.0.0/0", scope="Range"), "too-wide"), (item("::/0", scope="Range"), "too-wide"),
        (item("10.0.0.0/11", scope="Range"), "too-wide"),
        (item("192.0.2"), "bad-address"), (item("fe80::1%eth0"), "bad-address"),
        (item("::ffff:192.0.2.1"), "bad-address"), (item("192.0.2.300"), "bad-address"),
        (item(duration="soon"), "bad-duration"), (item(duration=7), "bad-duration"),
        (item(duration="-5s"), "over"), (item(duration="0s"), "over"),
        (item(7), "unreadable"), (item("9" * 300), "unreadable"), (item(type=None), "unreadable"),
        (7, "unreadable"), ({"value": A}, "unreadable"), (None, "unreadable"), ([], "unreadable"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_counted_and_the_rest_is_taken(given_item: Any, why: str) -> None:
    found, refused = taken(given_item, item(B))
    assert list(found) == [B]
    assert refused == {why: 1}


@pytest.mark.parametrize("items", [{}, "text", 7, True])
def test_another_value_than_a_list_is_an_error(items: Any) -> None:
    for function in (read, sources):
        with pytest.raises(ValueError, match="not a list"):
            function(parsed(items), WHOLE6)
        assert not function(None, WHOLE6)[0] if function is read else True


def test_of_several_decisions_the_strongest_counts() -> None:
    found, _ = taken(item(origin="CAPI", duration="168h"), item(duration="1h"), item(duration="2h"))
    assert (found[A].by_hand, found[A].seconds) == (True, 7200.0)


def test_ended_decisions_name_their_sources() -> None:
    ended = [item(duration="-3s"), item(B, type="captcha"), item("2001:db8:1:2::7"), 7]
    assert sources(parsed(ended), WHOLE6) == {A, "2001:db8:1:2::/64"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from([A, "Ip", "ban", "cscli", "1h", "0.0.0.0/0", "2001:db8::1"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from([*item()]), inner, max_size=8),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(VALUES | st.dictionaries(st.sampled_from([*item()]), VALUES), max_size=10))
def test_no_answer_makes_more_than_hosts_and_networks_with_a_time(items: list[Any]) -> None:
    found, refused = read(parsed(items), WHOLE6)
    assert len(found) + refused.total() <= len(items)
    assert all(isinstance(why, str) and len(why) < 20 for why in refused)
    for address, one in found.items():
        assert ip_network(address).prefixlen >= 12
        assert one.seconds > 0
        assert one.origin != "sentryfw"
    choice = choose(found, {}, [], BOUNDS._replace(credit=3, reserve=1), compared=True)
    assert len(choice.new) <= 3
    assert len(choice.new) + choice.left_out == len(found)


# --- what changes here


def changes(
    *found: Decision, held: dict[str, HeldDecision] | None = None, lifted: tuple[str, ...] = (),
    compared: bool = True, **bounds: Any,
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Return the addresses that are gone, and those that are new."""
    by_address = {one.address: one for one in found}
    choice = choose(by_address, held or {}, lifted, BOUNDS._replace(**bounds), compared=compared)
    return choice.gone, [one.address for one in choice.new]


HAND, WORD = HeldDecision(3000.0, by_hand=True), HeldDecision(3000.0, by_hand=False)


def test_what_the_api_has_no_longer_is_gone_after_a_comparison_alone() -> None:
    assert changes(decision(B), held={A: HAND}) == ([A], [B])
    assert changes(decision(B), held={A: HAND}, compared=False) == ([], [B])


def test_what_is_held_is_not_taken_again() -> None:
    for compared in (True, False):
        assert changes(decision(A, 3030), held={A: HAND}, compared=compared) == ([], [])
        assert changes(forged(A, 3030), held={A: WORD}, compared=compared) == ([], [])


def test_a_decision_that_lasts_on_is_taken_again_before_it_ends_here() -> None:
    assert changes(forged(A, 90_000), held={A: WORD}) == ([], [A])
    early = HeldDecision(10_000.0, by_hand=False)
    assert changes(forged(A, 90_000), held={A: early}) == ([], []), "the next comparison does"
    full = HeldDecision(14_390.0, by_hand=False)
    assert changes(forged(A, 90_000), held={A: full}, compared=False) == ([], [])


def test_one_that_became_shorter_ends_earlier() -> None:
    assert changes(decision(A, 60), held={A: HAND}) == ([], [A])
    assert changes(decision(A, 60), held={A: HAND}, compared=False) == ([], [])


def test_one_by_hand_replaces_a_weaker_one_and_is_replaced_when_it_has_gone() -> None:
    for compared in (True, False):
        assert changes(decision(A), held={A: WORD}, compared=compared) == ([], [A])
    assert changes(forged(A), held={A: HAND}, compared=False) == ([], []), "the stronger one stays"
    assert changes(forged(A), held={A: HAND}) == ([A], [A])


def test_what_was_lifted_here_stays_so_until_a_new_decision() -> None:
    assert changes(decision(A), lifted=(A,)) == ([], [])
    assert changes(decision(A), lifted=(A,), compared=False) == ([], [A])


def test_decisions_by_hand_have_a_place_where_a_list_has_none() -> None:
    found = [forged(A), forged(B, 9000), forged(C, origin="crowdsec"), decision("192.0.2.9")]
    assert changes(*found, room=2) == ([], ["192.0.2.9", C, B])
    assert changes(*found, room=0) == ([], ["192.0.2.9"])
    assert changes(*found, credit=12) == ([], ["192.0.2.9", C]), "ten are kept for those by hand"
    by_address = {one.address: one for one in found}
    none = choose(by_address, {}, [], BOUNDS._replace(credit=0), compared=True)
    assert (none.new, none.left_out, none.is_short) == ([], 4, True)
    some = choose(by_address, {}, [], BOUNDS._replace(room=1), compared=True)
    assert (len(some.new), some.left_out, some.is_short) == (2, 2, False)
