"""A result says what was seen on the wire, whether the promise held or not."""

import importlib

import pytest

from sentryfw.config import Config, parse
from sentryfw.drill import Result, run, scene
from sentryfw.drill.attacks import ATTACKS, PORTS
from sentryfw.drill.sniffer import Sighting
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from support import forge

module = importlib.import_module("sentryfw.drill.run")  # its name is the function's, too
ATTACKER = "198.18.1.2"
VICTIM = "198.18.0.1"


def run_only(monkeypatch: pytest.MonkeyPatch, option: str, config: Config) -> list[Result]:
    """The drill with one attack, over IPv4 and IPv6."""
    chosen = tuple(attack for attack in ATTACKS if attack.option == option)
    monkeypatch.setattr(module, "ATTACKS", chosen)
    said: list[str] = []
    results = run(config, said.append, forge=True)
    assert said[1:] == [f"[{n:2}/2] {option} over IPv{family}" for n, family in ((1, 4), (2, 6))]
    return results


@pytest.mark.netns
@pytest.mark.parametrize(
    ("option", "trigger"), [("-sS", 3), ("-sT", 3), ("-sX", 1), ("-sA", 3), ("-sU", 3)]
)
def test_a_scan_that_is_stopped(monkeypatch: pytest.MonkeyPatch, option: str, trigger: int) -> None:
    four, six = run_only(monkeypatch, option, Config())
    for result in (four, six):
        assert result.ok, result
        assert result.probes == trigger
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
    monkeypatch.setattr(scene, "PATIENCE", 3.0)
    for result in run_only(monkeypatch, "-sT", Config()):
        assert result.ok, result


@pytest.mark.netns
def test_the_trigger_of_the_configuration_is_the_one_that_fires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = parse(b"[detect]\ntrigger = 9\nslow_trigger = 20", "test")
    assert [result.probes for result in run_only(monkeypatch, "-sS", config)] == [9, 9]


@pytest.mark.netns
def test_a_scan_that_nobody_stops_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "PATIENCE", 2.0)
    config = parse(b'[never_block]\naddresses = ["198.18.0.0/15", "2001:2::/48"]', "test")
    for result in run_only(monkeypatch, "-sS", config):
        assert not result.ok
        assert (result.recognised, result.probes, result.block_ms) == ("-", 0, None)
        assert result.sent >= 100
        assert not result.listed_port_closed
        assert not result.back_after_unblock


@pytest.mark.netns
def test_an_answer_after_the_block_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "answers_after", lambda *_: 1)
    assert [result.ok for result in run_only(monkeypatch, "-sF", Config())] == [False, False]


def seen(source: str, target: str, sport: int, dport: int, *, sent: bool) -> Sighting:
    packet = decode(forge.ip(source, target, forge.TCP, forge.tcp(dport, "S", sport)))
    assert isinstance(packet, Packet)
    return Sighting(1.0, sent, packet, None)


def test_of_all_that_was_seen_only_the_attack_is_judged() -> None:
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
