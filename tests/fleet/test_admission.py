"""The worth of an entry: each rule, and what a hostile member gains by each attempt."""

from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from sentryfw.fleet.admission import (
    MAX_ALIVE,
    Admission,
    Admitted,
    Alive,
    Effect,
    Member,
    Rejected,
    Trust,
)
from sentryfw.fleet.entry import Elements, Entry

WALL = 1_764_000_000
GATEWAY = ip_network("198.51.100.1/32")


def entry(seq: int, address: str = "192.0.2.7", **fields: Any) -> Entry:
    """Return a block of an hour by fw1, made just now, by a decoy's finished handshake."""
    made = Entry(
        op="block", member="fw1", seq=seq, network=ip_network(address), duration_s=3600,
        evidence="proven", scan="decoy-scan", reason="why", at=WALL,
    )  # fmt: skip
    return made._replace(**fields)


def admission(trust: Trust = "weigh", **caps: int) -> Admission:
    members = {"fw1": Member(trust, **caps), "fw2": Member()}
    return Admission("us", members, lambda given: given.network.overlaps(GATEWAY))


@pytest.mark.parametrize(
    ("trust", "evidence", "effect"),
    [
        ("full", "proven", "block"), ("full", "forgeable", "block"), ("full", "hand", "block"),
        ("weigh", "proven", "block"), ("weigh", "hand", "block"), ("weigh", "forgeable", "weigh"),
        ("show", "proven", "show"), ("show", "forgeable", "show"),
    ],
)  # fmt: skip
def test_evidence_and_trust_decide_together(trust: Trust, evidence: Any, effect: Effect) -> None:
    given = entry(1, evidence=evidence)
    assert admission(trust).admit(given, 0, WALL) == Admitted(effect, given, 3600, 0)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (entry(1, member="us"), "echo"),
        (entry(1, member="nobody"), "unknown-member"),
        (entry(1, "198.51.100.1"), "never-block"),
        (entry(1, "0.0.0.0/0"), "network"),
        (entry(1, "192.0.2.0/24"), "network"),
        (entry(1, "2001:db8::/48"), "network"),
        (entry(1, duration_s=0), "permanent"),
        (entry(1, at=WALL - 3600), "over"),
        (entry(1, op="withdraw"), "nothing-to-withdraw"),
    ],
)
def test_a_hostile_members_attempts(given: Entry, reason: str) -> None:
    assert admission().admit(given, 0, WALL) == Rejected(reason)  # type: ignore[arg-type]


def test_even_a_fully_trusted_member_names_no_gateway() -> None:
    full = admission("full")
    assert full.admit(entry(1, "198.51.100.1"), 0, WALL) == Rejected("never-block")
    assert full.admit(entry(2, "198.51.100.0/24"), 0, WALL) == Rejected("never-block")
    assert full.admit(entry(3, "0.0.0.0/0"), 0, WALL) == Rejected("never-block")


def test_networks_are_for_full_trust_alone_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission().admit(entry(1, "203.0.113.0/24"), 0, WALL) == Rejected("network")
    full = admission("full")
    monkeypatch.setattr("sentryfw.fleet.admission.MAX_NETWORKS", 1)
    assert isinstance(full.admit(entry(1, "203.0.113.0/24"), 0, WALL), Admitted)
    assert full.admit(entry(2, "192.0.2.0/24"), 0, WALL) == Rejected("too-many-alive")
    assert isinstance(full.admit(entry(3, "203.0.113.0/24", duration_s=0), 0, WALL), Admitted)
    assert isinstance(
        full.admit(entry(4, op="withdraw", address="203.0.113.0/24"), 0, WALL), Admitted
    )
    assert isinstance(full.admit(entry(5, "192.0.2.0/24"), 0, WALL), Admitted)


def test_an_unblock_ends_the_entries_of_all_members_by_full_trust_alone() -> None:
    full = admission("full")
    full.admit(entry(1, member="fw2"), 0, WALL)
    assert isinstance(full.admit(entry(1, op="unblock"), 0, WALL), Admitted)
    assert not full.standings["fw2"].alive
    weigh = admission()
    weigh.admit(entry(1, member="fw2"), 0, WALL)
    assert weigh.admit(entry(1, op="unblock"), 0, WALL) == Rejected("needs-full-trust")
    assert weigh.standings["fw2"].alive


LEARNT = Elements(
    "fw1", 1, "partner4", ((b"\xc0\x00\x02\x07", 100), (b"\xc0\x00\x02\x08", 10)), WALL
)


def test_learnt_elements_are_for_full_trust_alone_and_end_in_time() -> None:
    assert admission().admit_elements(LEARNT, WALL) == Rejected("needs-full-trust")
    full = admission("full")
    assert full.admit_elements(LEARNT, WALL + 50) == {b"\xc0\x00\x02\x07": 50.0}
    assert full.admit_elements(LEARNT, WALL) == Rejected("replay")
    assert full.admit_elements(LEARNT._replace(seq=2), WALL + 100) == Rejected("over")
    assert full.admit_elements(LEARNT._replace(member="us"), WALL) == Rejected("echo")
    assert full.admit_elements(LEARNT._replace(member="fw9"), WALL) == Rejected("unknown-member")


def test_a_repeated_or_older_entry_changes_nothing() -> None:
    ours = admission()
    assert isinstance(ours.admit(entry(5), 0, WALL), Admitted)
    assert ours.admit(entry(5), 0, WALL) == Rejected("replay")
    assert ours.admit(entry(4, "192.0.2.8"), 0, WALL) == Rejected("replay")
    assert ours.standings["fw1"].refused == {"replay": 2}
    assert [*ours.standings["fw1"].alive] == ["192.0.2.7"]


def test_numbers_that_were_left_out_are_counted() -> None:
    ours = admission()
    ours.admit(entry(5), 0, WALL)
    admitted = ours.admit(entry(8, "192.0.2.8"), 0, WALL)
    assert isinstance(admitted, Admitted)
    assert admitted.gap == 2


@pytest.mark.parametrize(
    ("trust", "asked", "at", "seconds"),
    [
        ("weigh", 86400, WALL, 14400),  # at most 4 h
        ("full", 86400, WALL, 86400),
        ("full", 0, WALL, 0),  # without end
        ("weigh", 3600, WALL - 600, 3000),  # it was under way for ten minutes
        ("weigh", 3600, WALL + 10**6, 3600),  # a clock that is ahead prolongs nothing
    ],
)
def test_how_long_an_entry_has_effect(trust: Trust, asked: int, at: int, seconds: float) -> None:
    admitted = admission(trust).admit(entry(1, duration_s=asked, at=at), 0, WALL)
    assert isinstance(admitted, Admitted)
    assert admitted.seconds == seconds


def test_a_flood_of_ten_thousand_entries_fills_no_more_than_the_members_share() -> None:
    ours = admission()
    for number in range(10_000):
        address = str(IPv4Address("10.0.0.0") + number)
        ours.admit(entry(number + 1, address), number / 10_000, WALL)
    standing = ours.standings["fw1"]
    assert len(standing.alive) == MAX_ALIVE
    assert standing.refused.total() == 10_000 - MAX_ALIVE
    other = ours.admit(entry(1, member="fw2"), 1, WALL)
    assert isinstance(other, Admitted)  # another member's share is its own


def test_the_rate_is_bounded_and_what_was_not_used_is_saved_up() -> None:
    ours = admission(max_alive=10, per_minute=60)
    for seq in range(1, 11):
        assert isinstance(ours.admit(entry(seq, f"192.0.2.{seq}"), 0, WALL), Admitted)
    assert ours.admit(entry(11, "192.0.2.1"), 0, WALL) == Rejected("too-fast")
    assert isinstance(ours.admit(entry(12, "192.0.2.1"), 1, WALL), Admitted)
    assert ours.admit(entry(13, "192.0.2.99"), 2, WALL) == Rejected("too-many-alive")
    for seq in range(14, 24):  # an hour later, all at once
        assert isinstance(ours.admit(entry(seq, f"192.0.2.{seq}"), 7200, WALL), Admitted)


def test_a_withdraw_ends_the_entry_of_the_same_member_alone() -> None:
    ours = admission()
    ours.admit(entry(1), 0, WALL)
    others = entry(1, op="withdraw", member="fw2")
    assert ours.admit(others, 0, WALL) == Rejected("nothing-to-withdraw")
    own = entry(2, op="withdraw")
    assert ours.admit(own, 0, WALL) == Admitted("lift", own, 0, 0)
    assert not ours.standings["fw1"].alive


def test_after_a_restart_old_entries_stay_known() -> None:
    ours = admission()
    ours.restore("fw1", 7, {"192.0.2.7": Alive("block", 100)}, 50)
    ours.restore("gone", 1, {}, 50)
    assert ours.admit(entry(7), 50, WALL) == Rejected("replay")
    assert ours.forget("fw1") == ["192.0.2.7"]
    assert ours.forget("fw1") == ours.forget("gone") == []
    assert ours.admit(entry(7), 50, WALL) == Rejected("replay")


def test_with_full_trust_a_neighbour_has_networks_and_its_caps() -> None:
    member = Member("full", max_alive=2, per_minute=1, is_neighbour=True)
    made = Admission("us", {"fw1": member}, lambda given: given.network.overlaps(GATEWAY))
    network = made.admit(entry(1, "192.0.2.0/24", duration_s=10**7), 0, WALL)
    assert isinstance(network, Admitted)
    assert network.seconds == member.max_s
    assert made.admit(entry(2, "198.51.100.0/24"), 0, WALL) == Rejected("never-block")
    assert made.admit(entry(3, duration_s=0), 0, WALL) == Rejected("permanent")
    assert made.admit(entry(4, op="unblock"), 0, WALL) == Rejected("needs-full-trust")
    elements = Elements("fw1", 5, "partner4", ((b"abcd", 60),), WALL)
    assert made.admit_elements(elements, WALL) == Rejected("needs-full-trust")
    assert isinstance(made.admit(entry(6), 0, WALL), Admitted)
    assert made.admit(entry(7, "192.0.2.8"), 0, WALL) == Rejected("too-fast")
