"""What is exported, and its text: Prometheus' exposition format, version 0.0.4.

Base units, `_total` for what only grows, labels out of fixed sets: never an address, which would
make a time series for every scanner there is.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

PREFIX: Final = "sentryfw_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Family(NamedTuple):
    """One metric: its name without the prefix, and the labels that its samples have."""

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
    Family("build_info", "gauge", "1; version, and how packets are diverted.",
           ("version", "backend")),
    Family("up", "gauge", "Whether the daemon runs."),
    Family("start_time_seconds", "gauge", "When the daemon started, since the epoch."),
    Family("config_last_reload_successful", "gauge", "Whether the last reload was taken."),
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
    Family("packet_parse_errors_total", "counter", "Packets that lie about themselves.",
           ("reason",)),
    Family("probes_total", "counter", "Packets to nothing, by kind.", ("kind",)),
    Family("strays_total", "counter", "Packets that are no evidence, by why.", ("reason",)),
    Family("detections_total", "counter", "Scans found, by finding, blocked or not.",
           ("kind", "family")),
    Family("blocks_total", "counter", "Sources that the daemon blocked, by finding.",
           ("reason", "family")),
    Family("blocks_failed_total", "counter", "Blocks that the kernel refused."),
    Family("block_set_full_total", "counter", "Blocks refused because the set was full."),
    Family("refusals_total", "counter", "Scans that were not blocked, by why.", ("reason",)),
    Family("unblocks_total", "counter", "Blocks that somebody ended before their time.",
           ("reason",)),
    Family("blocked_hosts", "gauge", "Sources that are blocked now.", ("family",)),
    Family("set_capacity", "gauge", "Places in the set of blocked sources.", ("family",)),
    Family("blocked_hosts_limit", "gauge", "[block] max_elements: blocks alive at most."),
    Family("never_block_networks", "gauge", "Networks that are never blocked."),
    Family("tracked_sources", "gauge", "Sources that evidence is held against."),
    Family("tracked_sources_turned_away_total", "counter",
           "Probes of sources for which there was no room."),
    Family("flood_mode", "gauge", "Whether so many sources are new that one packet blocks none."),
    Family("floods_total", "counter", "Times that flood mode was entered."),
    Family("distributed_scans_total", "counter", "Scans that many sources shared."),
    Family("loop_lag_seconds", "gauge", "How late the loop that gives the verdicts last was."),
    Family("stalls_total", "counter", "Times that the loop stood still for 2 s or more."),
    Family("ruleset_heals_total", "counter", "Times that the table was repaired."),
    Family("events_dropped_total", "counter", "Records that were lost.", ("sink",)),
    Family("sink_events_total", "counter", "Reactions done.", ("sink",)),
    Family("sink_errors_total", "counter", "Reactions failed.", ("sink",)),
    Family("sink_waiting", "gauge", "Reactions that wait.", ("sink",)),
    Family("faults", "gauge", "What is wrong with the disk, by what for: 1.", ("sink",)),
    Family("decoy_visits_total", "counter", "Connections and data that decoys told of."),
    Family("db_size_bytes", "gauge", "Size of the ledger."),
    Family("evidence_bytes", "gauge", "Size of the packets kept."),
)  # fmt: skip


def render(samples: Iterable[Sample]) -> str:
    """Samples -> text, family by family. KeyError for one that is not in FAMILIES."""
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
