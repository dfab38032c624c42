"""Blocks that hosts.deny and routes mirror: begin, end, and what is never blocked."""

import pytest

from sentryfw.config.respond import Respond
from sentryfw.engine.networks import NO_NETWORKS
from sentryfw.errors import SentryError
from sentryfw.respond import mirrored_blocks as module
from sentryfw.respond.mirror import BlockMirror
from sentryfw.respond.mirrored_blocks import BlockEnds, MirroredBlocks
from sentryfw.respond.reaction_queue import ResultReporter
from support.forge import networks
from support.reactions import INCIDENT, Results

A, B = "198.18.0.2", "198.18.0.3"
PROVEN = INCIDENT._replace(forgeable=False)


# --- expected ends


def test_ends_are_due_in_their_order() -> None:
    ends = BlockEnds()
    ends.expect(A, 20.0)
    ends.expect(B, 10.0)
    assert ends.wait_s(4.0, 3600.0) == 6.0
    assert ends.pop_due(5.0) == []
    assert ends.pop_due(30.0) == [B, A]
    assert ends.wait_s(30.0, 3600.0) == 3600.0


def test_a_later_expectation_replaces_an_earlier_one() -> None:
    ends = BlockEnds()
    ends.expect(A, 10.0)
    ends.expect(A, 20.0)
    assert ends.pop_due(15.0) == []
    assert ends.pop_due(20.0) == [A]


def test_a_forgotten_end_is_never_due() -> None:
    ends = BlockEnds()
    for address in (A, B):
        ends.expect(address, 10.0)
    ends.forget(A)
    assert ends.pop_due(10.0) == [B]
    ends.expect(A, 10.0)
    ends.clear()
    assert ends.pop_due(10.0) == []


def test_the_wait_is_never_negative_and_at_most_the_limit() -> None:
    ends = BlockEnds()
    ends.expect(A, 10.0)
    assert (ends.wait_s(99.0, 60.0), ends.wait_s(-999.0, 60.0)) == (0.0, 60.0)


# --- mirrors


class Made:
    """Mirrored blocks with one mirror, which is not started: its wishes are visible."""

    def __init__(self, *never_block: str) -> None:
        self.results = Results()
        self.blocked: set[str] = set()
        self.mirror = BlockMirror("hosts_deny", lambda _: {}, lambda _: None, self.results)
        faults = ResultReporter("respond", self.results)
        protected = networks(*never_block)
        self.blocks = MirroredBlocks([self.mirror], protected, self.is_blocked, faults)

    def is_blocked(self, address: str) -> bool:
        if address == "fault":
            raise SentryError("the kernel did not answer")
        return address in self.blocked

    @property
    def wanted(self) -> dict[str, bool]:
        return self.mirror._wanted


def test_a_block_is_mirrored_until_the_kernel_has_ended_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "END_DELAY_S", 0.0)
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 1e-6)
    made = Made()
    made.blocked = {A}
    made.blocks.begin(A, 1e-6)
    made.blocks.check_ends()
    assert made.wanted == {A: True}
    made.blocked.clear()
    made.blocks.check_ends()
    assert made.wanted == {A: False}


def test_a_permanent_block_has_no_end() -> None:
    made = Made()
    made.blocks.begin(A, 0.0)
    assert made.blocks.wait_s() == module.MAX_WAIT_S


def test_a_kernel_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    monkeypatch.setattr(made.blocks, "_never_block", NO_NETWORKS)
    made.blocks._ends.expect("fault", 0.0)
    made.blocks.check_ends()
    assert [result.detail for result in made.results] == ["the kernel did not answer"]
    assert 0 < made.blocks.wait_s() <= module.CHECK_INTERVAL_S + module.END_DELAY_S


@pytest.mark.parametrize("by_restore", [False, True])
def test_a_block_that_covers_a_never_block_network_is_not_mirrored(
    by_restore: bool,  # noqa: FBT001
) -> None:
    made = Made("2001:2:0:1::1/128")
    if by_restore:
        made.blocks.restore({"2001:2:0:1::/64": 60.0, A: 60.0})
        assert made.mirror._all == {A}
    else:
        made.blocks.begin("2001:2:0:1::/64", 60.0)
        [failure] = made.results
        assert failure.detail == "covers addresses that are never blocked"
        assert made.wanted == {}


def test_never_block_networks_can_be_replaced() -> None:
    made = Made("198.18.0.0/24")
    made.blocks.protect(networks("203.0.113.0/24"))
    made.blocks.begin(A, 60.0)
    assert made.wanted == {A: True}


def test_ending_every_block_empties_the_mirror() -> None:
    made = Made()
    made.blocks.begin(A, 60.0)
    made.blocks.end(None)
    assert (made.mirror._all, made.wanted) == (set(), {})
    assert made.blocks.wait_s() == module.MAX_WAIT_S


def test_a_changed_section_withdraws_its_blocks() -> None:
    before = Respond.model_validate({"hosts_deny": {"enabled": True, "path": "/a"}})
    after = Respond.model_validate({"hosts_deny": {"enabled": True, "path": "/b"}})
    made = Made()
    made.blocks.withdraw(before, before)
    assert made.mirror._all is None
    made.blocks.withdraw(before, after)
    assert made.mirror._all == set()


# --- mirrors that other systems act on


class MadeFar(Made):
    """Mirrored blocks with a mirror of this host, and one that other systems act on."""

    def __init__(self, *never_block: str) -> None:
        super().__init__(*never_block)
        self.far = BlockMirror("bgp", lambda _: {}, lambda _: None, self.results, is_far=True)
        self.blocks._mirrors = [self.mirror, self.far]

    @property
    def told(self) -> dict[str, bool]:
        return self.far._wanted


def test_only_proven_blocks_go_far() -> None:
    made = MadeFar()
    made.blocks.begin(A, 60.0, INCIDENT)
    made.blocks.begin(B, 60.0, PROVEN)
    assert made.wanted == {A: True, B: True}
    assert made.told == {B: True}
    made.blocks.end(A)
    made.blocks.end(B)
    assert made.told == {B: False}


def test_a_block_by_hand_goes_far() -> None:
    made = MadeFar()
    made.blocks.begin(A, 0.0)
    assert made.told == {A: True}


def test_a_newer_block_without_proof_ends_it_far_away() -> None:
    made = MadeFar()
    made.blocks.begin(A, 60.0, PROVEN)
    made.blocks.begin(A, 60.0, INCIDENT)
    assert (made.wanted, made.told) == ({A: True}, {A: False})


def test_a_never_block_network_does_not_go_far() -> None:
    made = MadeFar("198.18.0.0/30")
    made.blocks.begin(A, 60.0, PROVEN)
    assert made.told == {}
    assert len(made.results) == 2
    made.blocks.restore({A: 60.0, "198.18.0.9": 60.0}, {A, "198.18.0.9"})
    assert made.far._all == {"198.18.0.9"}


def test_restored_are_the_proven_blocks_that_are_active() -> None:
    made = MadeFar()
    made.blocks.restore({A: 60.0, B: 60.0}, {B, "198.18.0.9"})
    assert (made.mirror._all, made.far._all) == ({A, B}, {B})
    made.blocks.end(None)
    assert made.far._all == made.blocks.proven == set()


def test_what_is_far_ends_with_the_daemon_and_the_rest_stays() -> None:
    made = MadeFar()
    made.blocks.begin(A, 60.0, PROVEN)
    assert made.blocks.withdraw_far()
    assert (made.far._all, made.mirror._all) == (set(), None)
    assert not Made().blocks.withdraw_far()


def test_without_a_far_mirror_nothing_is_remembered() -> None:
    made = Made()
    made.blocks.begin(A, 60.0, PROVEN)
    made.blocks.restore({A: 60.0}, {A})
    assert not made.blocks.need_proof
    assert made.blocks.proven == set()


@pytest.mark.parametrize(
    ("change", "is_withdrawn"),
    [({"spool": 7}, False), ({"url": "https://b.example/"}, True), ({"credentials": "/b"}, True)],
)
def test_decisions_at_the_same_place_are_left_to_the_new_reaction(
    change: dict[str, object], *, is_withdrawn: bool
) -> None:
    before = {"url": "https://a.example/", "credentials": "/a"}
    made = Made()
    made.mirror.reporter.name = "crowdsec"
    made.blocks.withdraw(
        Respond.model_validate({"crowdsec": before}),
        Respond.model_validate({"crowdsec": before | change}),
    )
    assert (made.mirror._all == set()) == is_withdrawn
