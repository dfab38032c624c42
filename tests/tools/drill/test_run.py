"""The result of an attack: the packets on the wire, and whether the promise was kept."""

import importlib
from typing import Any

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from sentryfw.record.records import DecisionRecord
from sentryfw.tools.drill import AttackResult, Progress, Step, plan, run, scene
from sentryfw.tools.drill.attacks import ATTACKS, PORTS
from sentryfw.tools.drill.sniffer import Sighting
from support import forge

module = importlib.import_module("sentryfw.tools.drill.run")  # its name is the function's, too
ATTACKER = "198.18.1.2"
VICTIM = "198.18.0.1"


def run_only(monkeypatch: pytest.MonkeyPatch, option: str, config: Config) -> list[AttackResult]:
    """The drill with one attack, over IPv4 and IPv6."""
    chosen = tuple(attack for attack in ATTACKS if attack.option == option)
    monkeypatch.setattr(module, "ATTACKS", chosen)
    begun: list[Step] = []
    ended: list[AttackResult] = []
    results = run(config, Progress(begun.append, ended.append), forge=True)
    assert begun == [Step(1, 2, chosen[0], 4), Step(2, 2, chosen[0], 6)] == plan()
    assert ended == results
    return results


@pytest.mark.netns
@pytest.mark.parametrize(
    ("option", "trigger"), [("-sS", 3), ("-sT", 3), ("-sX", 2), ("-sA", 3), ("-sU", 3)]
)
def test_a_scan_that_is_stopped(monkeypatch: pytest.MonkeyPatch, option: str, trigger: int) -> None:
    four, six = run_only(monkeypatch, option, Config())
    for result in (four, six):
        assert result.ok, result
        assert result.probes == result.targets == result.targets_due == trigger
        assert result.sent >= 100
        assert result.answers_after == 0
        assert (result.listed_port_closed, result.own_connection) == (True, True)
        assert result.back_after_unblock
        assert result.block_ms is not None
        assert 0 < result.block_ms < 1000
    assert (four.family, four.source) == ("ipv4", ATTACKER)
    assert (six.family, six.source) == ("ipv6", "2001:2:0:2::2")


@pytest.mark.netns
def test_a_connect_scan_that_finds_the_listed_port_first_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nmap tries popular ports first, so one run in six begins with the listed one; a handshake
    without a word makes no partner of a scanner."""
    for place in (scene, module):
        monkeypatch.setattr(place, "LISTED_PORT", PORTS[0])
    monkeypatch.setattr(scene, "ANSWER_TIMEOUT_S", 3.0)
    for result in run_only(monkeypatch, "-sT", Config()):
        assert result.ok, result


@pytest.mark.netns
def test_the_trigger_of_the_configuration_is_the_one_that_fires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = parse(b"[detect]\ntrigger = 9\nslow_trigger = 20", "test")
    assert [result.probes for result in run_only(monkeypatch, "-sS", config)] == [9, 9]


@pytest.mark.netns
def test_a_scan_that_is_not_stopped_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "ANSWER_TIMEOUT_S", 2.0)
    config = parse(b'[never_block]\naddresses = ["198.18.0.0/15", "2001:2::/48"]', "test")
    for result in run_only(monkeypatch, "-sS", config):
        assert not result.ok
        assert (result.recognised, result.probes, result.block_ms) == ("-", 0, None)
        assert result.sent >= 100
        assert not result.listed_port_closed
        assert not result.back_after_unblock


@pytest.mark.netns
def test_another_number_of_targets_than_the_configuration_has_is_not_ok(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block_of = scene.Scene.block_of

    def first_target(*arguments: Any) -> DecisionRecord | None:
        entry = block_of(*arguments)
        return entry and entry._replace(targets=1)

    monkeypatch.setattr(scene.Scene, "block_of", first_target)
    for result in run_only(monkeypatch, "-sF", Config()):
        assert not result.ok
        assert (result.targets, result.targets_due) == (1, 2)


@pytest.mark.netns
def test_an_answer_after_the_block_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "answers_after", lambda *_: 1)
    assert [result.ok for result in run_only(monkeypatch, "-sF", Config())] == [False, False]


def seen(source: str, target: str, sport: int, dport: int, *, sent: bool) -> Sighting:
    packet = decode(forge.ip(source, target, forge.TCP, forge.tcp(dport, "S", sport)))
    assert isinstance(packet, Packet)
    return Sighting(1.0, sent, packet, None)


def test_only_packets_of_the_attack_are_judged() -> None:
    attack = [
        seen(ATTACKER, VICTIM, 40000, 7, sent=True),
        seen(VICTIM, ATTACKER, 7, 40000, sent=False),
        seen(ATTACKER, VICTIM, 40000, 80, sent=True),
    ]
    others = [
        seen("198.18.2.2", VICTIM, 40000, 80, sent=True),
        seen(VICTIM, ATTACKER, 50000, 7, sent=False),
        seen(ATTACKER, VICTIM, 7, 50000, sent=True),
    ]
    assert module._of([*others, *attack], ATTACKER) == attack
