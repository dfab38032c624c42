"""Count answers that an attacker gets from a listed port after its triggering probe."""

import time
from collections.abc import Iterator

from bench.figures import Figure, at_most
from bench.frames import syn
from bench.lab import Lab
from bench.peers import NFT, NONE, PROGRAMS, UNLISTED, US, Defence

SETTLE_S = 0.3
"""Seconds until all queued packets have a verdict."""
BURST_COUNT = 2000
RATES = {"100/s": (100, 200), "1,000/s": (1000, 2000), "20,000/s": (20000, 20000)}
"""Probes a second, and the number of SYNs to the listed port after the trigger."""
FULL = ("full speed", (0, 50000))

Leaks = dict[str, dict[str, int]]


def figures(runs: int, *, peers: bool) -> list[Figure]:
    """Return the worst of several runs, with the peers' values."""
    speeds = dict([*RATES.items(), FULL])
    names = [US, *(PROGRAMS if peers else ()), NFT, NONE]
    leaks: Leaks = {}
    for name in names:
        with Lab() as lab:
            lab.listen()
            with Defence(lab, name) as defence:
                leaks[name] = _leaks(lab, defence, speeds, 1 if name == NONE else runs)
    found = []
    for measure in leaks[US]:
        values = {name: leak[measure] for name, leak in leaks.items()}
        ours = values.pop(US)
        label = f"leak at {measure}" if "/" in measure or "speed" in measure else f"leak {measure}"
        found.append(at_most(label, ours, "answers", 0, f"worst of {runs}", values))
    return found


def _leaks(
    lab: Lab, defence: Defence, speeds: dict[str, tuple[int, int]], runs: int
) -> dict[str, int]:
    sources = iter(range(0x0B000001, 0x0C000000))
    worst = {}
    for speed, (rate, count) in speeds.items():
        name = f"{speed} (of {count:,})"
        worst[name] = max(_scan(lab, next(sources), defence, rate, count) for _ in range(runs))
    worst[f"back to back (of {BURST_COUNT:,})"] = max(
        _bursts(lab, [next(sources) for _ in range(BURST_COUNT)], defence) for _ in range(runs)
    )
    return worst


def _scan(lab: Lab, source: int, defence: Defence, rate: int, count: int) -> int:
    """Return the answers to one source that sends its probes, then SYNs to the listed port."""
    probes = [syn(source, port) for port in UNLISTED[: defence.trigger]]
    after = [syn(source, 80, 1024 + number) for number in range(count)]
    return _answers(lab, [*probes, *after], rate)


def _bursts(lab: Lab, sources: list[int], defence: Defence) -> int:
    """Return the answers to sources that send their probes and one SYN each, back to back."""

    def frames() -> Iterator[bytes]:
        for source in sources:
            yield from (syn(source, port) for port in UNLISTED[: defence.trigger])
            yield syn(source, 80)

    return _answers(lab, list(frames()), 0)


def _answers(lab: Lab, frames: list[bytes], rate: int) -> int:
    before = lab.answers()
    lab.send(lab.frames("leak", frames), "--rate", rate)
    time.sleep(SETTLE_S)
    return lab.answers() - before
