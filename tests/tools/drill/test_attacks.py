"""The attacks are the scans they say they are, forged or by nmap."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sentryfw.engine.classify import classify
from sentryfw.engine.model import Meta, Packet, Probe, address_text
from sentryfw.engine.packet import decode
from sentryfw.errors import SentryError
from sentryfw.tools.drill import attacks
from sentryfw.tools.drill.attacks import ATTACKS, PORTS, Attack
from sentryfw.tools.drill.sniffer import Sighting, Sniffer, probes
from support.waiting import wait_for

SOURCE = {4: "198.18.0.1", 6: "2001:2::1"}
TARGET = {4: "198.18.0.2", 6: "2001:2::2"}
UNLISTED = Meta(unlisted=True, partner=False)

EACH = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.option)
FORGED = pytest.mark.parametrize(
    "attack",
    [attack for attack in ATTACKS if attack.flags != "connect"],
    ids=lambda attack: attack.option,
)
FAMILY = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

Seen = Callable[[str], list[Sighting]]


@pytest.fixture
def seen(pair: Any) -> Iterator[Seen]:
    """The packets sent to an address, as soon as each port of PORTS has one."""
    sniffer = Sniffer(pair.here, "veth0")

    def look(target: str) -> list[Sighting]:
        kept: list[Sighting] = []

        def all_there() -> bool:
            kept.extend(item for item in probes(sniffer.take()))
            return {item.packet.dport for item in to(kept, target)} >= set(PORTS)

        wait_for(all_there, "a probe to every port")
        return to(kept, target)

    yield look
    sniffer.close()


def to(sightings: list[Sighting], target: str) -> list[Sighting]:
    return [item for item in sightings if address_text(item.packet.target) == target]


def kind_of(packet: Packet) -> str:
    found = classify(packet, UNLISTED)
    assert isinstance(found, Probe), found
    return found.kind


def test_every_scan_of_nmap_that_can_be_blocked_is_tried() -> None:
    options = ["-sS", "-sT", "-sF", "-sN", "-sX", "-sM", "-sA", "-sU"]
    assert [attack.option for attack in ATTACKS] == options


@FORGED
@FAMILY
def test_a_forged_scan_is_one_probe_of_its_kind_to_each_port(attack: Attack, family: int) -> None:
    packets = [decode(data) for data in attacks._forge(attack, SOURCE[family], TARGET[family])]
    ports = []
    for packet in packets:
        assert isinstance(packet, Packet)
        assert (address_text(packet.source), address_text(packet.target)) == (
            SOURCE[family],
            TARGET[family],
        )
        assert kind_of(packet) == attack.kind
        ports.append(packet.dport)
    assert ports == list(PORTS)


@pytest.mark.netns
@EACH
@FAMILY
def test_a_forged_scan_goes_over_the_wire(
    pair: Any, seen: Seen, attack: Attack, family: int
) -> None:
    attacks.scan_forged(pair.here, attack, SOURCE[family], TARGET[family])
    sent = seen(TARGET[family])
    assert {kind_of(item.packet) for item in sent} == {attack.kind}
    assert {item.packet.dport for item in sent} == set(PORTS)


@pytest.mark.netns
@pytest.mark.nmap
@EACH
def test_a_scan_by_nmap_has_the_kind_of_the_table(pair: Any, seen: Seen, attack: Attack) -> None:
    attacks.scan_with_nmap(pair.here, attack, TARGET[4])
    sent = seen(TARGET[4])
    assert {kind_of(item.packet) for item in sent} == {attack.kind}


@pytest.mark.netns
@pytest.mark.nmap
def test_nmap_over_ipv6(pair: Any, seen: Seen) -> None:
    attacks.scan_with_nmap(pair.here, ATTACKS[0], TARGET[6])
    assert {kind_of(item.packet) for item in seen(TARGET[6])} == {"syn"}


@pytest.mark.netns
@pytest.mark.nmap
def test_a_failure_of_nmap_is_reported(pair: Any) -> None:
    bogus = Attack("--no-such-option", "SYN", "syn", "S")
    with pytest.raises(SentryError, match=r"nmap .*--no-such-option.*: \S"):
        attacks.scan_with_nmap(pair.here, bogus, TARGET[4])


@pytest.mark.netns
@pytest.mark.nmap
def test_an_nmap_that_does_not_end_times_out(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "SCAN_TIMEOUT_S", 0.01)
    with pytest.raises(SentryError, match=r"timed out after 0\.01 s"):
        attacks.scan_with_nmap(pair.here, ATTACKS[0], TARGET[4])


def test_where_nmap_is_not_it_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert attacks.tool(forge=False) == "forged packets"
    (tmp_path / "nmap").write_text("#!/bin/sh\n")
    (tmp_path / "nmap").chmod(0o755)
    assert attacks.tool(forge=False) == "nmap"
    assert attacks.tool(forge=True) == "forged packets"
