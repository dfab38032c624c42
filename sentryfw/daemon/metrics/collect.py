"""The daemon's state as samples for Prometheus; made in a thread off the packet path.

See docs/decisions.md: metrics-on-request.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw import __version__
from sentryfw.config.model import Config
from sentryfw.config.zone import DEFAULT
from sentryfw.daemon.metrics.families import Sample, render
from sentryfw.daemon.overload import Loss
from sentryfw.daemon.status import ReactionStatus, Status
from sentryfw.engine.counters import Counters
from sentryfw.netfilter.schema import BLOCK_SET_SIZE
from sentryfw.netfilter.table import Counter

_STAGES: Final = {"blocked_early": "early", "blocked_late": "late"}
"""Counters of rulesets/sets.nft that count what blocks have dropped, and their stage."""

Tally = Mapping[tuple[str, int, bool, str], int]
"""(finding, 4 or 6, blocked, zone) -> number of findings."""


class State(NamedTuple):
    """Everything that the samples are made of."""

    status: Status
    config: Config
    started: float
    """Seconds since the epoch."""
    lag: float
    """Seconds that the last tick was late."""
    received: int
    """Packets that left the queue."""
    blocked: dict[int, int]
    """Active blocks, by 4 and 6."""
    tally: Tally
    zones: Mapping[str, int]
    """Sources with evidence, by zone."""
    counters: dict[str, Counter]
    """The table's; empty during a repair."""
    confined: dict[int, int]
    """Confined partners, by 4 and 6; empty during a repair."""


def text(state: State) -> str:
    """Return the exposition text of a running daemon."""
    return render(samples(state))


def text_of_none() -> str:
    """Return the exposition text where no daemon runs."""
    return render([Sample("build_info", 1, (__version__, "")), Sample("up", 0)])


def samples(state: State) -> Iterator[Sample]:
    """Yield the samples of every family."""
    status, config = state.status, state.config
    yield Sample("build_info", 1, (__version__, status.divert))
    yield Sample("up", 1)
    yield Sample("start_time_seconds", state.started)
    yield Sample("config_last_reload_successful", not status.reload.error)
    yield Sample("config_last_reload_timestamp_seconds", status.reload.at)
    yield from _table(state.counters)
    yield from _queue(state)
    yield from _engine(status.engine)
    yield from _findings(state.tally)
    for zone, sources in state.zones.items():
        yield Sample("zone_tracked_sources", sources, (zone or DEFAULT,))
    yield Sample("unblocks_total", status.guard.unblocked_by_others, ("manual",))
    yield from _blocks(state)
    yield from (Sample("confined_hosts", n, (str(f),)) for f, n in state.confined.items())
    yield Sample("confine_paused", bool(status.confine_paused))
    yield Sample("blocked_hosts_limit", config.block.max_elements)
    yield Sample("never_block_networks", status.never_block.networks)
    yield Sample("tracked_sources", status.tracked_sources)
    turned_away = status.overload[Loss.SOURCE_TABLE_FULL]
    yield Sample("tracked_sources_turned_away_total", turned_away)
    yield Sample("conntrack_flows", status.conntrack.tracked)
    yield Sample("conntrack_flows_limit", status.conntrack.limit)
    yield from _fleet(status.fleet.get("members", {}))
    yield from (Sample("overload_total", n, (loss.value,)) for loss, n in status.overload.items())
    yield Sample("flood_mode", status.flood)
    yield Sample("loop_lag_seconds", state.lag)
    yield Sample("stalls_total", status.overload[Loss.STALLED])
    yield Sample("ruleset_heals_total", status.guard.repairs)
    yield Sample("events_dropped_total", status.lost_records, ("recorder",))
    yield from _reactions(status.reactions)
    yield from (Sample("faults", 1, (name,)) for name in status.faults)
    if status.decoys is not None:
        yield Sample("decoy_visits_total", status.decoys.visits)
    ledger = config.paths.ledger
    yield Sample("db_size_bytes", _sizes([ledger, Path(f"{ledger}-wal")]))
    yield Sample("evidence_bytes", _sizes(_listed(config.paths.evidence)))


def _fleet(members: Mapping[str, Mapping[str, Any]]) -> Iterator[Sample]:
    """Yield the samples of the fleet; the members are those of the configuration."""
    for name, member in members.items():
        for effect, key in (("block", "blocks"), ("weigh", "weighed"), ("show", "shown")):
            yield Sample("fleet_sources", member[key], (name, effect))
        for reason, count in member["refused"].items():
            yield Sample("fleet_refused_total", count, (name, reason))


def _table(counters: dict[str, Counter]) -> Iterator[Sample]:
    for name, counter in counters.items():
        stage = _STAGES.get(name)
        prefix, label = ("", name) if stage is None else ("blocked_", stage)
        yield Sample(f"{prefix}packets_total", counter.packets, (label,))
        yield Sample(f"{prefix}bytes_total", counter.bytes, (label,))


def _queue(state: State) -> Iterator[Sample]:
    lost, queue = state.status.overload, state.status.queue
    yield Sample("queue_packets_total", state.received)
    yield Sample("queue_dropped_total", lost[Loss.QUEUE_FULL], ("kernel",))
    yield Sample("queue_dropped_total", lost[Loss.SOCKET_BUFFER_FULL], ("user",))
    yield Sample("queue_enobufs_total", queue.overruns)
    yield Sample("queue_unjudged_total", queue.failures)
    yield Sample("queue_capacity", queue.max_len)


def _engine(counters: Counters) -> Iterator[Sample]:
    """Yield the samples of the engine; the labels are its own words, a fixed set."""
    yield Sample("confinements_total", counters.confined)
    yield Sample("blocks_failed_total", counters.blocks_failed)
    yield Sample("block_set_full_total", counters.block_set_full)
    yield Sample("floods_total", counters.floods)
    yield Sample("distributed_scans_total", counters.distributed_scans)
    for metric, counts in (
        ("probes_total", counters.probes),
        ("refusals_total", counters.refusals),
        ("packet_parse_errors_total", counters.malformed),
        ("strays_total", counters.strays),
    ):
        yield from (Sample(metric, count, (label,)) for label, count in counts.items())


def _findings(tally: Tally) -> Iterator[Sample]:
    found: Counts[tuple[str, int]] = Counts()
    blocked: Counts[tuple[str, int]] = Counts()
    zones: Counts[str] = Counts()
    for (scan, family, is_blocked, zone), count in tally.items():
        found[scan, family] += count
        zones[zone] += count
        if is_blocked:
            blocked[scan, family] += count
    for (scan, family), count in blocked.items():
        yield Sample("blocks_total", count, (scan, str(family)))
    for (scan, family), count in found.items():
        yield Sample("detections_total", count, (scan, str(family)))
    for zone, count in zones.items():
        yield Sample("zone_detections_total", count, (zone or DEFAULT,))


def _blocks(state: State) -> Iterator[Sample]:
    for family, count in state.blocked.items():
        yield Sample("blocked_hosts", count, (str(family),))
        yield Sample("set_capacity", BLOCK_SET_SIZE, (str(family),))


def _reactions(found: Mapping[str, ReactionStatus]) -> Iterator[Sample]:
    for name, reaction in found.items():
        yield Sample("sink_events_total", reaction.done, (name,))
        yield Sample("sink_errors_total", reaction.failed, (name,))
        yield Sample("sink_waiting", reaction.waiting, (name,))


def _listed(directory: Path) -> Iterable[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries]
    except OSError:  # captures are not kept
        return []


def _sizes(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        try:
            size += path.stat().st_size
        except OSError:  # it was deleted since
            continue
    return size
