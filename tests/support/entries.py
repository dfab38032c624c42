"""Records as the daemon makes them."""

from typing import Final

from sentryfw.record.records import DecisionRecord, ProbeRecord

BLOCKED_AT: Final = 1_800_000_000.5

BLOCK: Final = DecisionRecord(
    address="198.18.0.2",
    family=4,
    scan="portscan",
    kinds=["syn", "udp"],
    targets=3,
    probes=5,
    first_seen=BLOCKED_AT - 2,
    blocked_at=BLOCKED_AT,
    timeout_s=3600.0,
    offence=1,
    forgeable=True,
    tool="unknown",
    reason="3 distinct targets within the window",
    sample=["198.18.0.1 tcp/22", "198.18.0.1 tcp/23", "198.18.0.1 udp/53"],
    blocked=True,
)
REFUSAL: Final = BLOCK._replace(timeout_s=0.0, offence=0, reason="partner", blocked=False)
SIX: Final = BLOCK._replace(
    address="2001:2::/64", family=6, scan="portsweep", sample=["2001:2:0:1::1 tcp/22"]
)
PROBE: Final = ProbeRecord(
    "2001:2::/64", BLOCKED_AT, "udp", listed=False, target="2001:2:0:1::1 udp/53"
)
