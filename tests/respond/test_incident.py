"""What reactions are told, out of what the engine decided."""

import pytest

from sentryfw.config_respond import PLACEHOLDERS
from sentryfw.engine.model import Block, Evidence, Kind, Probe, Refusal, parse_source
from sentryfw.respond.incident import incident_of
from support.forge import packed
from support.reactions import INCIDENT, REFUSED

EPOCH = 1_800_000_000.0


def _evidence(source: str, kind: Kind, protocol: int, port: int) -> Evidence:
    name = parse_source(source)
    target = (packed("2001:2::1" if ":" in source else "198.18.0.1"), protocol, port)
    return Evidence(
        name, 3, 5, ("udp", "syn"), 1.0, 3.0, 1.0, 0.5, "portscan", (target,),
        last=Probe(name, target, kind), address=packed(source), tool="nmap",
    )  # fmt: skip


def _block(source: str = "198.18.0.2", kind: Kind = "syn", protocol: int = 6) -> Block:
    evidence = _evidence(source, kind, protocol, 111)
    return Block(evidence.source, 3600.0, 2, True, "why", evidence, 3.0)


def test_a_block_is_told_with_wall_clock_times() -> None:
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
def test_the_mode_is_portsentrys_word(kind: Kind, protocol: int, prefix: str, mode: str) -> None:
    assert incident_of(_block(kind=kind, protocol=protocol), 3.0, EPOCH, prefix).mode == mode


def test_a_refusal_is_told_with_its_reason() -> None:
    evidence = _evidence("198.18.0.2", "syn", 6, 111)
    incident = incident_of(Refusal(evidence.source, "partner", evidence, 3.0), 3.0, EPOCH, "a")
    assert (incident.action, incident.reason, incident.timeout) == ("refused", "partner", 0.0)


def test_evidence_without_a_deciding_probe_still_names_the_source() -> None:
    evidence = _evidence("2001:2:0:1::77", "syn", 6, 111)._replace(last=None, address=b"")
    block = Block(evidence.source, 60.0, 0, True, "why", evidence, 3.0)
    incident = incident_of(block, 3.0, EPOCH, "a")
    assert (incident.ip, incident.protocol, incident.port) == ("2001:2:0:1::", "0", 0)


def test_every_placeholder_is_a_printable_word() -> None:
    fields = INCIDENT.fields()
    assert tuple(fields) == PLACEHOLDERS
    assert all(text.isprintable() for text in fields.values())
    assert (fields["timeout"], fields["kinds"], fields["port"]) == ("3600", "syn,udp", "111")


def test_the_sentence_says_what_happened_to_whom_and_why() -> None:
    assert INCIDENT._replace(host="evil.example").sentence() == (
        "blocked 198.18.0.2 (evil.example) for 3600s: portscan (syn, udp) at tcp/111,"
        " 3 distinct targets within the window, offence 1"
    )
    assert REFUSED.sentence() == (
        "not blocked 198.18.0.2: portscan (syn, udp) at tcp/111, because: observe"
    )
