"""explain: the traces of a real scan, as the command line shows them, packets included."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapNgReader

from sentryfw.engine.model import parse_source
from sentryfw.record import lookup
from sentryfw.record.captures import captures
from sentryfw.record.ledger import Ledger
from sentryfw.text import local_time
from support.frames import FIN, tcp_frame, udp_frame
from support.lab import ATTACKER, BYSTANDER, SENTRYFWD, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SOURCE: Final = {4: ATTACKER[4], 6: "2001:2:0:1::/64"}
MAX_FLOOD_MIB: Final = 64
"""Memory that a flood may cost."""


def _run(lab: Lab, daemon: Sentry, *words: object) -> CompletedProcess[str]:
    program = SENTRYFWD.with_name("sentryfw")
    done = lab.victim.run(program, "-c", daemon.config, "explain", *map(str, words))
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _explain(lab: Lab, daemon: Sentry, address: str) -> Any:
    done = _run(lab, daemon, address, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _mixed_scan(lab: Lab, family: int) -> list[bytes]:
    """Three frames, each of another kind or to another port; the last one is one too many."""
    ends = (lab.ether, ATTACKER[family], VICTIM[family], 40000)
    return [tcp_frame(*ends, 7001), udp_frame(*ends, 7002), tcp_frame(*ends, 7003, FIN)]


def _past(daemon: Sentry, family: int = 4) -> lookup.SourceHistory:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        return lookup.history(ledger, SOURCE[family])


def _captures(daemon: Sentry, family: int = 4) -> list[bytes]:
    entries = [block.entry for block in _past(daemon, family).blocks]
    return captures(daemon.settings.paths.evidence, entries)


@both_families
def test_a_block_is_explained_by_each_of_its_probes(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.wire.send(*_mixed_scan(lab, family))
    event = daemon.alert(ATTACKER[family])["sentryfw"]
    lab.probe(ATTACKER[family], 7004, 7005)
    wait_for(lambda: lab.dropped(ATTACKER[family]) == 2, "two dropped packets")
    wait_for(lambda: _past(daemon, family).blocks, "the block is in the ledger")
    found = _explain(lab, daemon, ATTACKER[family])
    assert (found["source"], found["blocked"]) == (SOURCE[family], True)
    assert found["because"] == "blocked: portscan (syn, udp, fin): " + event["reason"]
    assert found["dropped_packets"] == 2
    assert (found["timeout_s"], found["offences"]) == (3600, 1)
    assert 3500 < found["expires_in_s"] <= 3600
    [block] = found["blocks"]
    assert (block["id"], block["state"], block["forgeable"]) == (event["id"], "blocked", True)
    address = VICTIM[family]
    assert [(seen["kind"], seen["target"]) for seen in block["evidence"]] == [
        ("syn", f"{address} tcp/7001"),
        ("udp", f"{address} udp/7002"),
        ("fin", f"{address} tcp/7003"),
    ]
    times = [seen["at"] for seen in block["evidence"]]
    assert times == sorted(times)
    assert event["first_seen"] <= times[0]
    assert times[-1] <= block["at"]
    assert found["probes"] == found["refusals"] == []


@both_families
def test_the_packets_behind_a_block_are_saved(
    lab: Lab, daemon: Sentry, family: int, tmp_path: Path
) -> None:
    frames = _mixed_scan(lab, family)
    lab.wire.send(*frames)
    event = daemon.alert(ATTACKER[family])["sentryfw"]["id"]
    wait_for(lambda: _captures(daemon, family), "a capture")
    path = tmp_path / "why.pcapng"
    done = _run(lab, daemon, ATTACKER[family], "--pcap", path)
    assert (done.returncode, done.stderr) == (0, f"{path}: the packets behind 1 block\n")
    with RawPcapNgReader(str(path)) as reader:
        found = [(packet, meta.comments[0].decode()) for packet, meta in reader]
    assert [packet for packet, _ in found] == [frame[14:] for frame in frames]
    assert [comment.split(": ")[0] for _, comment in found] == [f"event {event}"] * 3
    ip = {4: IP, 6: IPv6}[family]
    assert [p[UDP if UDP in p else TCP].dport for p in (ip(raw) for raw, _ in found)] == [
        7001,
        7002,
        7003,
    ]


def _unblocks(daemon: Sentry) -> int:
    return sum(e["sentryfw"].get("event") == "unblocked" for e in daemon.events())


def test_packets_of_several_blocks_are_in_one_file(
    lab: Lab, daemon: Sentry, tmp_path: Path
) -> None:
    for count in (1, 2):
        lab.probe(ATTACKER[4], *UNLISTED)
        wait_for(lambda: len(_past(daemon).blocks) == count, "a block")  # noqa: B023
        lab.table.sets.unblock(parse_source(ATTACKER[4]))
        wait_for(lambda: _unblocks(daemon) == count, "the daemon has noticed")  # noqa: B023
    wait_for(lambda: len(_captures(daemon)) == 2, "two captures")
    path = tmp_path / "why.pcapng"
    assert "the packets behind 2 blocks" in _run(lab, daemon, ATTACKER[4], "--pcap", path).stderr
    read = lab.victim.run("tcpdump", "-nr", path)
    assert read.returncode == 0, read.stderr
    assert len(read.stdout.splitlines()) == 6


def test_a_confinement_is_explained(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(BYSTANDER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4], action="allowed")
    with Ledger(daemon.settings.paths.ledger) as ledger:
        wait_for(
            lambda: lookup.history(ledger, BYSTANDER[4]).refusals, "the refusal is in the ledger"
        )
    found = _explain(lab, daemon, BYSTANDER[4])
    assert (found["blocked"], found["partner"], found["blocks"]) == (False, True, [])
    assert found["confined"]
    assert found["because"].startswith("confined, as a partner, to the services that it used")
    [refusal] = found["refusals"]
    assert refusal["reason"] == "3 distinct targets within the window"
    assert [seen["target"] for seen in refusal["evidence"]] == [
        f"{VICTIM[4]} tcp/{port}" for port in UNLISTED
    ]
    assert found["probes"] == []


def test_probes_below_the_trigger_are_explained(lab: Lab, daemon: Sentry) -> None:
    lab.probe(ATTACKER[4], *UNLISTED[:2])
    wait_for(lambda: len(_past(daemon).probes) == 2, "two probes in the ledger")
    found = _explain(lab, daemon, ATTACKER[4])
    assert found["because"] == "not blocked: 2 probes, which is below the trigger"
    assert [seen["target"] for seen in found["probes"]] == [
        f"{VICTIM[4]} tcp/{port}" for port in UNLISTED[:2]
    ]
    assert found["suspect"]


def test_a_block_that_is_over_is_explained(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon('[block]\ntimeouts = ["1s"]')
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: _past(daemon).blocks, "the block is in the ledger")
    wait_for(lambda: not lab.is_blocked(ATTACKER[4]), "its end")
    found = _explain(lab, daemon, ATTACKER[4])
    assert (found["blocked"], found["blocks"][0]["state"]) == (False, "expired")
    end = local_time(found["blocks"][0]["ended_at"])
    assert found["because"] == f"not blocked any more: expired at {end}"
    assert found["dropped_packets"] is None


def test_a_never_blocked_address_names_the_reason(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f'[never_block]\naddresses = ["{ATTACKER[4]}/29"]')
    found = _explain(lab, daemon, ATTACKER[4])
    assert found["because"] == "never blocked: never_block.addresses (198.18.0.0/29)"
    assert found["never_block"] == [
        {"network": "198.18.0.0/29", "why": "never_block.addresses", "in_kernel": True}
    ]


def test_an_unknown_address_ends_in_7(lab: Lab, daemon: Sentry) -> None:
    done = _run(lab, daemon, "203.0.113.9")
    assert done.returncode == 7
    assert "not blocked: nothing is known of it" in done.stdout


def test_a_pipe_gets_the_story_in_order(lab: Lab, daemon: Sentry) -> None:
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: _past(daemon).blocks, "the block is in the ledger")
    lines = _run(lab, daemon, ATTACKER[4]).stdout.splitlines()
    start = lines.index("at\twhat\tkind\ttarget\tforgeable\twhy\tevent")
    story = [line.split("\t")[1:4] for line in lines[start + 1 :]]
    assert story == [
        *(["probe", "syn", f"{VICTIM[4]} tcp/{port}"] for port in UNLISTED),
        ["blocked for 1h", "syn", "portscan"],
    ]


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def test_remembered_packets_cost_bounded_memory(lab: Lab, daemon: Sentry) -> None:
    """200,000 forged sources; a scanner that was half-seen before is blocked after, with the
    packets from before."""
    idle = _resident_mib(daemon.process.pid)
    lab.probe(ATTACKER[4], *UNLISTED[:2])
    lab.flood(200_000, 7001)
    drain(daemon)
    assert _resident_mib(daemon.process.pid) - idle < MAX_FLOOD_MIB
    lab.probe(ATTACKER[4], UNLISTED[2])
    event = daemon.alert(ATTACKER[4])["sentryfw"]["id"]
    wait_for(lambda: _captures(daemon), "a capture")
    [capture] = _captures(daemon)
    with RawPcapNgReader(io.BytesIO(capture)) as reader:
        found = [(IP(packet)[TCP].dport, meta.comments[0].decode()) for packet, meta in reader]
    assert [port for port, _ in found] == list(UNLISTED)
    assert [comment.split(": ")[0] for _, comment in found] == [f"event {event}"] * 3
