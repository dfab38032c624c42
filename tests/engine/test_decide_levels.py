"""Levels of protocol families: reactions to scans in TCP and UDP."""

import itertools
from collections.abc import Iterable

import pytest

from sentryfw.engine.decide import Level
from sentryfw.engine.model import Kind
from support.transcript import POLICY, A, scenario

LEVELS: tuple[Level, ...] = ("block", "command", "observe")


@pytest.mark.parametrize(
    ("kinds", "tcp", "udp", "level"),
    [
        (["syn"], "block", "observe", "block"),
        (["syn", "fin", "null"], "observe", "block", "observe"),
        (["udp"], "block", "observe", "observe"),
        (["udp"], "observe", "command", "command"),
        (["udp", "syn"], "block", "observe", "block"),
        (["udp", "syn"], "observe", "command", "command"),
        (["icmp"], "observe", "observe", "block"),
        (["protocol"], "command", "command", "block"),
        (["sctp-init", "syn"], "observe", "observe", "block"),
    ],
    ids=[
        "tcp-blocks", "tcp-is-observed", "udp-is-observed", "udp-runs-the-command",
        "the-stronger-of-both", "command-is-stronger-than-observe", "icmp-is-neither",
        "protocol-is-neither", "sctp-is-neither",
    ],
)  # fmt: skip
def test_the_strongest_level_of_the_kinds_decides(
    kinds: Iterable[Kind], tcp: Level, udp: Level, level: Level
) -> None:
    assert POLICY._replace(tcp=tcp, udp=udp).level(kinds) == level


@pytest.mark.parametrize(("tcp", "udp"), list(itertools.product(LEVELS, LEVELS)))
def test_a_scan_in_one_family_follows_that_family_alone(tcp: Level, udp: Level) -> None:
    expected = {"block": "block", "command": "refuse", "observe": "refuse"}
    said = scenario(tcp=tcp, udp=udp).syn(A, 1, 2, 3)
    assert said.outcomes[-1].action == expected[tcp]
    said = scenario(tcp=tcp, udp=udp).udp(A, 1, 2, 3)
    assert said.outcomes[-1].action == expected[udp]


def test_a_refusal_names_the_level() -> None:
    scenario(udp="observe").udp(A, 1, 2, 3).expect_refusal(A, "observe")
    scenario(udp="command").udp(A, 1, 2, 3).expect_refusal(A, "command")


def test_a_source_that_is_only_observed_blocks_at_its_first_packet_of_the_other_family() -> None:
    scenario(udp="observe").udp(A, 1, 2, 3).syn(A, 4).expect_block(A)


def test_the_command_is_requested_once_a_minute() -> None:
    said = scenario(tcp="command").syn(A, 1, 2, 3).expect_refusal(A, "command")
    assert not said.at(59.0).syn(A, 4).outcomes[-1].refusals
    said.at(60.5).syn(A, 5).expect_refusal(A, "command")


def test_a_partner_is_refused_at_every_level() -> None:
    said = scenario(tcp="command", confine=False).partner(A)
    said.syn(A, 1, 2, 3).expect_refusal(A, "partner")


def test_the_probe_that_decided_is_in_the_evidence() -> None:
    said = scenario().syn(A, 1, 2).udp(A, 53).expect_block(A)
    last = said.block.evidence.last
    assert last is not None
    assert (last.kind, last.target[1:]) == ("udp", (17, 53))
    assert len(said.block.evidence.address) == 4
