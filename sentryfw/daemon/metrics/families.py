"""The metric families, and their text in Prometheus' exposition format, version 0.0.4.

Base units, `_total` for counters, and labels from fixed sets: an address as a label would make a
time series for every scanner.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

PREFIX: Final = "sentryfw_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Family(NamedTuple):
    """A metric: its name without the prefix, and the labels of its samples."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    family: str
    value: float
    labels: tuple[str, ...] = ()
    """In the order of the family's."""


FAMILIES: Final = (
    Family("build_info", "gauge", "1; labels: version, and the way packets are diverted.",
           ("version", "backend")),
    Family("up", "gauge", "Whether the daemon runs."),
    Family("start_time_seconds", "gauge", "Start of the daemon, since the epoch."),
    Family("config_last_reload_successful", "gauge", "Whether the last reload was accepted."),
    Family("config_last_reload_timestamp_seconds", "gauge",
           "When the configuration in effect was loaded, since the epoch."),
    Family("packets_total", "counter", "Packets at the table's counters.", ("counter",)),
    Family("bytes_total", "counter", "Bytes at the table's counters.", ("counter",)),
    Family("blocked_packets_total", "counter",
           "Packets of blocked sources that were dropped.", ("stage",)),
    Family("blocked_bytes_total", "counter",
           "Bytes of blocked sources that were dropped.", ("stage",)),
    Family("queue_packets_total", "counter", "Packets that the daemon took out of the queue."),
    Family("queue_dropped_total", "counter",
           "Packets dropped because the queue (kernel) or the socket (user) was full.", ("stage",)),
    Family("queue_enobufs_total", "counter", "Times that the queue's socket overran."),
    Family("queue_unjudged_total", "counter", "Packets accepted because judging them failed."),
    Family("queue_capacity", "gauge", "Packets that may wait for a verdict."),
    Family("packet_parse_errors_total", "counter", "Packets that could not be decoded, by reason.",
           ("reason",)),
    Family("probes_total", "counter", "Probes, by kind.", ("kind",)),
    Family("strays_total", "counter", "Packets that are not evidence, by reason.", ("reason",)),
    Family("detections_total", "counter", "Scans found, by finding, blocked or not.",
           ("kind", "family")),
    Family("zone_detections_total", "counter", "Scans found, by zone, blocked or not.", ("zone",)),
    Family("zone_tracked_sources", "gauge", "Sources with evidence against them, by zone.",
           ("zone",)),
    Family("blocks_total", "counter", "Sources that the daemon blocked, by finding.",
           ("reason", "family")),
    Family("confinements_total", "counter", "Partners that were confined to what they use."),
    Family("blocks_failed_total", "counter", "Blocks that the kernel refused."),
    Family("block_set_full_total", "counter", "Blocks refused because the set was full."),
    Family("refusals_total", "counter", "Scans that were not blocked, by reason.", ("reason",)),
    Family("unblocks_total", "counter", "Blocks that were ended before their timeout.",
           ("reason",)),
    Family("blocked_hosts", "gauge", "Sources that are blocked now.", ("family",)),
    Family("confined_hosts", "gauge", "Partners that are confined now.", ("family",)),
    Family("confine_paused", "gauge", "Whether partners that scan are only reported."),
    Family("set_capacity", "gauge", "Size of the set of blocked sources.", ("family",)),
    Family("blocked_hosts_limit", "gauge", "[block] max_elements, the limit of active blocks."),
    Family("never_block_networks", "gauge", "Networks that are never blocked."),
    Family("tracked_sources", "gauge", "Sources with evidence against them."),
    Family("tracked_sources_turned_away_total", "counter",
           "Sources that were forgotten early, because the source table was full."),
    Family("conntrack_flows", "gauge", "Flows that connection tracking knows."),
    Family("conntrack_flows_limit", "gauge",
           "nf_conntrack_max: with more flows the kernel drops new clients."),
    Family("fleet_sources", "gauge", "Sources named by members of the fleet, by their effect.",
           ("member", "effect")),
    Family("fleet_refused_total", "counter", "Entries of a member without effect, by the reason.",
           ("member", "reason")),
    Family("overload_total", "counter", "Times that something was full, by what.", ("what",)),
    Family("flood_mode", "gauge", "Whether flood mode is on: one forgeable packet does not block."),
    Family("floods_total", "counter", "Times that flood mode was entered."),
    Family("distributed_scans_total", "counter", "Scans that several sources shared."),
    Family("loop_lag_seconds", "gauge", "Delay of the last tick of the loop that gives verdicts."),
    Family("stalls_total", "counter", "Times that the loop stalled for 2 s or more."),
    Family("ruleset_heals_total", "counter", "Times that the table was repaired."),
    Family("events_dropped_total", "counter", "Records that were lost.", ("sink",)),
    Family("sink_events_total", "counter", "Reactions done.", ("sink",)),
    Family("sink_errors_total", "counter", "Reactions failed.", ("sink",)),
    Family("sink_waiting", "gauge", "Reactions that are waiting.", ("sink",)),
    Family("faults", "gauge", "1 for each component with a disk fault.", ("sink",)),
    Family("decoy_visits_total", "counter", "Finished handshakes with decoys."),
    Family("db_size_bytes", "gauge", "Size of the ledger."),
    Family("evidence_bytes", "gauge", "Size of the captures."),
)  # fmt: skip


def render(samples: Iterable[Sample]) -> str:
    """Return the text of the samples, family by family.

    Raise KeyError for a family that is not in FAMILIES, ValueError for missing labels.
    """
    found: dict[str, list[Sample]] = {family.name: [] for family in FAMILIES}
    for sample in samples:
        found[sample.family].append(sample)
    return "".join(
        line for family in FAMILIES if found[family.name] for line in _lines(family, found)
    )


def _lines(family: Family, found: dict[str, list[Sample]]) -> Iterator[str]:
    name = PREFIX + family.name
    yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
    for sample in found[family.name]:
        pairs = zip(family.labels, sample.labels, strict=True)
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
        yield f"{name}{{{labels}}} " if labels else f"{name} "
        yield f"{sample.value:.17g}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
