"""The daemon's state -> samples. In a thread beside the packet path, never in it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw import __version__
from sentryfw.config import SET_SIZE, Config
from sentryfw.engine.model import KINDS
from sentryfw.metrics.families import Sample, render
from sentryfw.netfilter.table import Counter

_BLOCKED: Final = {"blocked_early": "early", "blocked_late": "late"}
"""Counters of rulesets/sets.nft that say what blocks have dropped."""
_REFUSED: Final = "refused "
_MALFORMED: Final = "malformed"
_OWN: Final = {
    "blocks failed": "blocks_failed_total",
    "block set full": "block_set_full_total",
    "floods": "floods_total",
    "distributed scans": "distributed_scans_total",
}
"""Engine counters with a metric of their own."""

Tally = Mapping[tuple[str, int, bool], int]
"""(finding, 4 or 6, blocked) -> how many."""


class State(NamedTuple):
    """What the daemon hands over."""

    status: dict[str, Any]
    """As its control socket tells it."""
    config: Config
    started: float
    loaded: float
    """When the configuration in effect was; both in seconds since the epoch."""
    reload_ok: bool
    lag: float
    received: int
    blocked: dict[int, int]
    """Blocks that are alive, by 4 and 6."""
    tally: Tally
    counters: dict[str, Counter]
    """The table's; empty while it is being repaired."""


def text(state: State) -> str:
    """All of it, as Prometheus reads it."""
    return render(samples(state))


def text_of_none() -> str:
    """What there is to say where no daemon runs."""
    return render([Sample("build_info", 1, (__version__, "")), Sample("up", 0)])


def samples(state: State) -> Iterator[Sample]:
    status, config = state.status, state.config
    yield Sample("build_info", 1, (__version__, status["divert"]))
    yield Sample("up", 1)
    yield Sample("start_time_seconds", state.started)
    yield Sample("config_last_reload_successful", state.reload_ok)
    yield Sample("config_last_reload_timestamp_seconds", state.loaded)
    yield from _table(state.counters)
    yield from _queue(state)
    yield from _engine(status["engine"])
    yield from _findings(state.tally)
    yield Sample("unblocks_total", status["unblocked_by_others"], ("manual",))
    yield from _blocks(state)
    yield Sample("blocked_hosts_limit", config.block.max_elements)
    yield Sample("never_block_networks", status["never_block"]["never_block"])
    yield Sample("tracked_sources", status["tracked_sources"])
    yield Sample("tracked_sources_turned_away_total", status["overload"]["source table full"])
    yield Sample("flood_mode", status["flood"])
    yield Sample("loop_lag_seconds", state.lag)
    yield Sample("stalls_total", status["overload"]["stalled"])
    yield Sample("ruleset_heals_total", status["healed"]["count"])
    yield Sample("events_dropped_total", status["lost_records"], ("recorder",))
    yield from _reactions(status["reactions"])
    yield from (Sample("faults", 1, (name,)) for name in status["faults"])
    if status["decoys"] is not None:
        yield Sample("decoy_visits_total", status["decoys"]["visits"])
    ledger = config.paths.ledger
    yield Sample("db_size_bytes", _sizes([ledger, Path(f"{ledger}-wal")]))
    yield Sample("evidence_bytes", _sizes(_listed(config.paths.evidence)))


def _table(counters: dict[str, Counter]) -> Iterator[Sample]:
    for name, counter in counters.items():
        stage = _BLOCKED.get(name)
        prefix, label = ("", name) if stage is None else ("blocked_", stage)
        yield Sample(f"{prefix}packets_total", counter.packets, (label,))
        yield Sample(f"{prefix}bytes_total", counter.bytes, (label,))


def _queue(state: State) -> Iterator[Sample]:
    lost, queue = state.status["overload"], state.status["queue"]
    yield Sample("queue_packets_total", state.received)
    yield Sample("queue_dropped_total", lost["queue full"], ("kernel",))
    yield Sample("queue_dropped_total", lost["socket buffer full"], ("user",))
    yield Sample("queue_enobufs_total", queue["overruns"])
    yield Sample("queue_unjudged_total", queue["failures"])
    yield Sample("queue_capacity", queue["max_len"])


def _engine(counters: dict[str, int]) -> Iterator[Sample]:
    """The engine's counters; their names are the engine's own words, a fixed set."""
    for name, metric in _OWN.items():
        yield Sample(metric, counters.get(name, 0))
    for name, count in counters.items():
        if name in KINDS:
            yield Sample("probes_total", count, (name,))
        elif name.startswith(_REFUSED):
            yield Sample("refusals_total", count, (name.removeprefix(_REFUSED),))
        elif name.startswith(f"{_MALFORMED}: "):
            yield Sample("packet_parse_errors_total", count, (name.partition(": ")[2],))
        elif name != _MALFORMED and name not in _OWN:
            yield Sample("strays_total", count, (name,))


def _findings(tally: Tally) -> Iterator[Sample]:
    found: dict[tuple[str, int], int] = {}
    for (scan, family, is_blocked), count in tally.items():
        found[scan, family] = found.get((scan, family), 0) + count
        if is_blocked:
            yield Sample("blocks_total", count, (scan, str(family)))
    for (scan, family), count in found.items():
        yield Sample("detections_total", count, (scan, str(family)))


def _blocks(state: State) -> Iterator[Sample]:
    for family, count in state.blocked.items():
        yield Sample("blocked_hosts", count, (str(family),))
        yield Sample("set_capacity", SET_SIZE, (str(family),))


def _reactions(found: dict[str, dict[str, int]]) -> Iterator[Sample]:
    for name, reaction in found.items():
        yield Sample("sink_events_total", reaction["done"], (name,))
        yield Sample("sink_errors_total", reaction["failed"], (name,))
        yield Sample("sink_waiting", reaction["waiting"], (name,))


def _listed(directory: Path) -> Iterable[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries]
    except OSError:  # none are kept
        return []


def _sizes(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        try:
            size += path.stat().st_size
        except OSError:  # went meanwhile
            continue
    return size
