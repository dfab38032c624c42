"""Engine values as plain records, with the wall clock in them."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import KINDS, Block, Evidence, Kind, Probe, Refusal, Source, Target
from sentryfw.record.records import (
    block_entry,
    manual_entry,
    probe_of,
    record_of,
    refusal_entry,
    target_text,
)

EPOCH = 1_800_000_000.0
SIX = ip_address("2001:2::1").packed
EVIDENCE = Evidence(
    source=Source(bytes((198, 18, 0, 2))),
    targets=3,
    probes=5,
    kinds=("syn", "udp"),
    first_seen=10.0,
    last_seen=12.0,
    score=1.0,
    slow_score=0.5,
    scan="portscan",
    sample=((bytes((198, 18, 0, 1)), 6, 22), (bytes((198, 18, 0, 1)), 17, 53)),
)


def test_a_block_carries_its_evidence_and_when_the_kernel_acknowledged_it() -> None:
    block = Block(
        source=EVIDENCE.source, timeout=3600.0, offence=2, forgeable=False, reason="because",
        evidence=EVIDENCE, at=12.0,
    )  # fmt: skip
    entry = block_entry(block, 12.5, EPOCH)
    assert (entry.address, entry.family, entry.scan) == ("198.18.0.2", 4, "portscan")
    assert (entry.first_seen, entry.blocked_at) == (EPOCH + 10.0, EPOCH + 12.5)
    assert (entry.timeout_s, entry.offence, entry.forgeable) == (3600.0, 2, False)
    assert (entry.kinds, entry.targets, entry.probes) == (["syn", "udp"], 3, 5)
    assert entry.sample == ["198.18.0.1 tcp/22", "198.18.0.1 udp/53"]
    assert (entry.reason, entry.blocked) == ("because", True)


def test_a_refusal_has_its_reason_and_no_timeout() -> None:
    entry = refusal_entry(Refusal(EVIDENCE.source, "partner", EVIDENCE, 12.0), EPOCH)
    assert (entry.blocked, entry.reason, entry.timeout_s, entry.offence) == (
        False, "partner", 0.0, 0,
    )  # fmt: skip
    assert entry.blocked_at == EPOCH + 12.0


def test_a_block_by_hand_is_not_an_offence() -> None:
    entry = manual_entry("198.18.0.0/24", 4, 0.0, EPOCH)
    assert (entry.address, entry.blocked, entry.offence) == ("198.18.0.0/24", True, 0)
    assert entry.reason == "blocked by hand"


@pytest.mark.parametrize(
    ("source", "address", "family"),
    [
        (Source(SIX[:8]), "2001:2::/64", 6),
        (Source(ip_address("fe80::1").packed), "fe80::1", 6),
    ],
    ids=["prefix", "link-local"],
)
def test_ipv6_sources_are_named_as_an_operator_writes_them(
    source: Source, address: str, family: int
) -> None:
    refusal = Refusal(source, "partner", EVIDENCE._replace(source=source), 12.0)
    entry = refusal_entry(refusal, EPOCH)
    assert (entry.address, entry.family) == (address, family)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ((bytes((198, 18, 0, 1)), 6, 22), "198.18.0.1 tcp/22"),
        ((SIX, 17, 53), "2001:2::1 udp/53"),
        ((SIX, 132, 7), "2001:2::1 sctp/7"),
        ((bytes((198, 18, 0, 1)), 1, 8), "198.18.0.1 icmp/8"),
        ((SIX, 58, 128), "2001:2::1 icmpv6/128"),
        ((SIX, 47, 0), "2001:2::1 47/0"),
    ],
    ids=["tcp", "udp", "sctp", "icmp", "icmpv6", "other"],
)
def test_targets_are_address_protocol_and_port(target: Target, text: str) -> None:
    assert target_text(target) == text


SOURCES = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=16, max_size=16).filter(lambda data: any(data[8:])),
).map(Source)
TARGETS = st.tuples(
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(0, 255),
    st.integers(0, 65535),
)


@given(SOURCES, TARGETS, st.sampled_from(KINDS), st.booleans())
def test_a_probe_is_restored_from_its_record(
    source: Source,
    target: Target,
    kind: Kind,
    listed: bool,  # noqa: FBT001 - hypothesis
) -> None:
    probe = Probe(source, target, kind, listed=listed)
    assert probe_of(record_of(probe, 1.0)) == probe


def test_the_record_of_a_probe_has_its_time() -> None:
    probe = Probe(EVIDENCE.source, EVIDENCE.sample[0], "syn")
    assert record_of(probe, EPOCH).at == EPOCH
