"""Incidents, made of the engine's decisions."""

import pytest

from sentryfw.config.respond import PLACEHOLDERS
from sentryfw.engine.model import Block, Evidence, Kind, Probe, Refusal, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.respond.incident import incident_of
from support.forge import packed
from support.reactions import INCIDENT, REFUSED

EPOCH = 1_800_000_000.0


def _evidence(source: str, kind: Kind, protocol: int, port: int) -> Evidence:
    name = parse_source(source, LINK_LOCAL_ONLY)
    target = (packed("2001:2::1" if ":" in source else "198.18.0.1"), protocol, port)
    return Evidence(
        source=name, targets=3, probes=5, kinds=("udp", "syn"), first_seen=1.0, last_seen=3.0,
        score=1.0, slow_score=0.5, scan="portscan", sample=(target,),
        last=Probe(name, target, kind), address=packed(source), tool="nmap",
    )  # fmt: skip


def _block(source: str = "198.18.0.2", kind: Kind = "syn", protocol: int = 6) -> Block:
    evidence = _evidence(source, kind, protocol, 111)
    return Block(
        source=evidence.source, timeout=3600.0, offence=2, forgeable=True, reason="why",
        evidence=evidence, at=3.0,
    )  # fmt: skip


def test_a_block_has_wall_clock_times() -> None:
    incident = incident_of(_block(), 3.25, EPOCH, "a")
    assert incident == INCIDENT._replace(
        at=EPOCH + 3.25, first_seen=EPOCH + 1, kinds=("udp", "syn"), offence=2, reason="why"
    )


def test_an_ipv6_incident_names_the_prefix_and_the_one_address() -> None:
    incident = incident_of(_block("2001:2:0:1::77"), 3.0, EPOCH, "a")
    assert (incident.address, incident.ip) == ("2001:2:0:1::/64", "2001:2:0:1::77")
    assert (incident.target, incident.family) == ("2001:2::1", 6)


@pytest.mark.parametrize(
    ("kind", "protocol", "prefix", "mode"),
    [
        ("syn", 6, "a", "atcp"),
        ("udp", 17, "a", "audp"),
        ("null", 6, "s", "stcp"),
        ("udp", 17, "s", "sudp"),
        ("connect", 6, "a", "tcp"),
        ("connect", 17, "s", "udp"),
    ],
)
def test_the_mode_has_portsentrys_name(kind: Kind, protocol: int, prefix: str, mode: str) -> None:
    assert incident_of(_block(kind=kind, protocol=protocol), 3.0, EPOCH, prefix).mode == mode


def test_a_refusal_has_its_reason() -> None:
    evidence = _evidence("198.18.0.2", "syn", 6, 111)
    incident = incident_of(Refusal(evidence.source, "partner", evidence, 3.0), 3.0, EPOCH, "a")
    assert (incident.action, incident.reason, incident.timeout) == ("refused", "partner", 0.0)


def test_evidence_without_a_deciding_probe_still_names_the_source() -> None:
    evidence = _evidence("2001:2:0:1::77", "syn", 6, 111)._replace(last=None, address=b"")
    block = _block()._replace(source=evidence.source, evidence=evidence)
    incident = incident_of(block, 3.0, EPOCH, "a")
    assert (incident.ip, incident.protocol, incident.port) == ("2001:2:0:1::", "0", 0)


def test_every_placeholder_is_a_printable_word() -> None:
    fields = INCIDENT.fields()
    assert tuple(fields) == PLACEHOLDERS
    assert all(text.isprintable() for text in fields.values())
    assert (fields["timeout"], fields["kinds"], fields["port"]) == ("3600", "syn,udp", "111")


def test_the_sentence_has_action_source_and_reason() -> None:
    assert INCIDENT._replace(host="evil.example").sentence() == (
        "blocked 198.18.0.2 (evil.example) for 3600s: portscan (syn, udp) at tcp/111,"
        " 3 distinct targets within the window, offence 1"
    )
    assert REFUSED.sentence() == (
        "not blocked 198.18.0.2: portscan (syn, udp) at tcp/111, because: observe"
    )
