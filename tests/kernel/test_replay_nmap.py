"""Captures of the real nmap against an unprotected host, replayed."""

import signal
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.tools.replay.judge import ReplayResult
from sentryfw.tools.replay.run import replay
from support.lab import ATTACKER, BYSTANDER, INTERFACE, LISTED, VICTIM, Lab
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap]

UNLISTED: Final = 12
PORTS: Final = f"7001-{7000 + UNLISTED},{LISTED}"
ETHERNET: Final = ("-i", INTERFACE)
COOKED: Final = ("-i", "any", "-y", "LINUX_SLL")
COOKED2: Final = ("-i", "any", "-y", "LINUX_SLL2")


def _start_tcpdump(lab: Lab, path: Path, where: tuple[str, ...]) -> Any:
    """Recording on the victim; with room, so that a burst is not lost in part."""
    tcpdump = lab.victim.popen(
        ["tcpdump", "-Z", "root", "-n", "-U", "-s", "256", "-B", "16384", *where, "-w", path]
    )
    said = tcpdump.stderr.readline()
    while "listening on" not in said:
        assert said, "tcpdump ended at once"
        said = tcpdump.stderr.readline()
    return tcpdump


def _stop_tcpdump(tcpdump: Any, path: Path, probes: int) -> None:
    """Wait until the file holds that many packets to the victim."""
    wait_for(lambda: _probed(path) >= probes, "the whole scan in the file")
    tcpdump.send_signal(signal.SIGINT)
    assert tcpdump.wait(10) == 0


def _record(lab: Lab, path: Path, where: tuple[str, ...], option: str, family: int) -> None:
    """A scan from its first to its last packet."""
    tcpdump = _start_tcpdump(lab, path, where)
    command = ["nmap", "-n", "-Pn", "-T5", "--max-retries", "0", "-r", option, "-p", PORTS]
    if family == 6:
        command += ["-6", "-S", ATTACKER[6], "-e", INTERFACE]
    done = lab.attacker.run(*command, VICTIM[family])
    assert done.returncode == 0, done.stderr
    _stop_tcpdump(tcpdump, path, UNLISTED + 1)


def _probed(path: Path) -> int:
    """Packets to the victim that are in the file by now, the last one perhaps in part."""
    fates = replay(path, Config(), NETWORKS, frozenset()).fates
    return fates["judged"] + fates["dropped"]


NETWORKS: Final = tuple(ip_network(address) for address in VICTIM.values())


@pytest.mark.parametrize(
    ("option", "kind", "probes", "where", "family"),
    [
        ("-sS", "syn", 3, ETHERNET, 4),
        ("-sS", "syn", 3, COOKED, 6),
        ("-sF", "fin", 2, COOKED2, 4),
        ("-sU", "udp", 3, COOKED, 4),
        ("-sU", "udp", 3, ETHERNET, 6),
        ("-sA", "ack", 3, ETHERNET, 4),
    ],
    ids=["syn-ethernet", "syn6-cooked", "fin-cooked2", "udp-cooked", "udp6", "ack"],
)  # fmt: skip
def test_a_recorded_scan_is_found_at_its_first_probes_without_options(
    lab: Lab, tmp_path: Path, option: str, kind: str, probes: int, where: tuple[str, ...],
    family: int,
) -> None:  # fmt: skip
    lab.listen(LISTED, family)
    path = tmp_path / "scan.pcap"
    _record(lab, path, where, option, family)
    result = replay(path, Config())
    finding = result.findings[parse_source(ATTACKER[family], LINK_LOCAL_ONLY)]
    assert list(result.findings) == [finding.source]
    assert result.view.local == (ip_network(VICTIM[family]),)
    assert _listed(result) == ({(6, LISTED)} if option == "-sS" else set())
    assert (finding.action, finding.kinds, finding.probes) == ("blocked", (kind,), probes)
    assert 0 <= finding.decided_at - finding.first_seen < 5
    assert finding.packets_after >= UNLISTED - probes
    assert finding.answers_after > 0


def _listed(result: ReplayResult) -> set[tuple[int, int]]:
    return {socket[1:] for socket in result.view.sockets}


def test_other_traffic_beside_a_scan_is_not_a_finding(lab: Lab, tmp_path: Path) -> None:
    """A client of the listed port, and the victim's own connection, in the same capture."""
    path = tmp_path / "mixed.pcap"
    lab.listen(LISTED)
    lab.listen(4000, host=lab.attacker)
    tcpdump = _start_tcpdump(lab, path, ETHERNET)
    lab.open(BYSTANDER[4])
    lab.open_from_victim(ATTACKER[4], 4000)
    lab.probe(ATTACKER[4], 7001, 7002, 7003, LISTED)
    _stop_tcpdump(tcpdump, path, 4)
    result = replay(path, Config())
    assert list(result.findings) == [parse_source(ATTACKER[4])]
    assert _listed(result) == {(6, LISTED)}
    assert result.findings[parse_source(ATTACKER[4])].answers_after >= 1
