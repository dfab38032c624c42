"""Run a capture through the table model and the engine.

Two passes: the first guesses what the operator did not state and finds the connections that are
older than the capture (view.py), the second judges (judge.py). What runs for each packet is
compiled like the engine (packaging/compile_engine.py), and imports nothing of the configuration.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sentryfw.config.model import Config
from sentryfw.config.types import MAX_PORT
from sentryfw.engine.engine import Engine
from sentryfw.engine.networks import NetworkIndex, Whole6
from sentryfw.engine.packet import SCTP, TCP, UDP
from sentryfw.host.whole6 import Neighbours
from sentryfw.netfilter.ruleset import unwatched
from sentryfw.tools.replay.capture import CaptureError, open_capture
from sentryfw.tools.replay.guess import Guess
from sentryfw.tools.replay.judge import Judge, ReplayResult
from sentryfw.tools.replay.sets import Rules, Unwatched, by_port
from sentryfw.tools.replay.table_model import TableModel
from sentryfw.tools.replay.view import CaptureView, Network, Service, neighbours


def replay(
    path: Path,
    config: Config,
    local: tuple[Network, ...] = (),
    listed: frozenset[Service] | None = None,
    not_local: tuple[Network, ...] = (),
) -> ReplayResult:
    """Judge a capture. Guess `local`, outside `not_local`, and `listed` where they are not given.
    Raise OSError."""
    view = first_pass(path, local, listed, not_local, config.detect.whole6)
    return judge(path, config, view._replace(listed=view.listed | _hand_listed(config)))


def judge(path: Path, config: Config, view: CaptureView) -> ReplayResult:
    """Run the second pass."""
    never_block = tuple(config.never_block.addresses)
    engine = Engine(config.horizons(), config.policy(NetworkIndex(never_block)))
    onlink = neighbours(view.local)
    found = Neighbours.of(config, onlink)
    engine.use_neighbours(Whole6(found.whole6), NetworkIndex(found.onlink))
    judging = Judge(view, engine, TableModel(view, rules(config), never_block, onlink))
    result = judging.result
    try:
        with open_capture(path) as records:
            judging.read(records)
    except CaptureError as error:
        result.error = error
    result.fates.update(judging.fates)
    result.packets = result.fates.total()
    return result


def first_pass(
    path: Path,
    local: tuple[Network, ...],
    listed: frozenset[Service] | None,
    not_local: tuple[Network, ...] = (),
    whole6: Iterable[Network] = (),
) -> CaptureView:
    """Run the first pass. A fault of the capture ends it; the second pass reports it."""
    guess = Guess(whole6)
    with suppress(CaptureError), open_capture(path) as records:
        guess.read(records)
    return guess.view(local, listed, not_local)


def rules(config: Config) -> Rules:
    """Return what the table has of a configuration."""
    watch = config.watch
    tcp, udp = (by_port(unwatched(config, name)) for name in ("tcp", "udp"))
    if watch.mode == "traps":
        sets = Unwatched(tcp, udp, by_port([(0, MAX_PORT)]), protocol=True)
    else:
        sets = Unwatched(tcp, udp, tcp)
    return Rules(sets, by_port(watch.greylist_tcp), watch.defers_raw_syn, config.detect.whole6)


def _hand_listed(config: Config) -> frozenset[Service]:
    watch = config.watch
    return frozenset(
        (protocol, port)
        for protocol, ranges in (
            (TCP, watch.listed_tcp),
            (UDP, watch.listed_udp),
            (SCTP, watch.listed_sctp),
        )
        for first, last in ranges
        for port in range(first, last + 1)
    )
