"""Measure how many packets of a blocked source are dropped a second, beside a pure nft drop.

A frame is dropped before its sender continues, so the sender's speed shows the cost of a drop.
"""

from bench.figures import Figure, share_of
from bench.frames import syn
from bench.lab import Daemon, Lab
from bench.peers import NFT, US, Defence, text
from sentryfw.engine.model import Source
from sentryfw.netfilter.table import Table

SOURCE = 0x0B000001


def figures(runs: int, seconds: float) -> list[Figure]:
    rates: dict[str, list[float]] = {US: [], NFT: []}
    with Lab() as ours, Lab() as pure, Daemon(ours), Defence(pure, NFT):
        ours.victim.call(_block)
        pure.nft(pure.victim, f"add element inet purenft blocked {{ {text(SOURCE)} }}")
        for _ in range(runs):
            for name, lab in ((US, ours), (NFT, pure)):
                frames = lab.frames("blocked", [syn(SOURCE, 80, 1024 + n) for n in range(64)])
                sent = lab.send(frames, "--seconds", seconds)
                rates[name].append(sent["sent"] / sent["seconds"])
        assert not ours.answers() + pure.answers(), "a blocked source was answered"
    return [share_of("blocked source, dropped", rates, "packets/s", US, NFT, 1.0)]


def _block() -> None:
    table = Table()
    table.sets.block([(Source(SOURCE.to_bytes(4)), 600.0)])
    table.close()
