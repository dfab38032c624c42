"""From the first probe on the wire to the block in the kernel, trigger 1, idle machine."""

import socket
import statistics
import time

from bench.engine import syns
from bench.figures import Figure, at_most, percentile
from sentryfw.config import Config
from sentryfw.drill.scene import VICTIM4, Scene
from sentryfw.drill.sniffer import Sniffer
from sentryfw.engine.model import address_text
from sentryfw.record.ledger import Ledger

PAUSE = 0.005
PATIENCE = 5.0


def figures(probes: int) -> list[Figure]:
    times = _latencies(probes)
    spread = f"{min(times):.3g}-{max(times):.3g}"
    return [
        at_most(
            "first probe to acknowledged block, median", statistics.median(times), "ms", 1, spread
        ),
        at_most("first probe to acknowledged block, p99", percentile(times, 0.99), "ms", 5),
    ]


def _latencies(probes: int) -> list[float]:
    """Milliseconds, a fresh source each."""
    config = Config.model_validate({"detect": {"trigger": 1}})
    packets = syns(sources=1 << 24)[:probes]
    with Scene(config) as scene:
        scene.take_address(1, 4)
        sniffer = Sniffer(scene.attacker, "veth0")
        try:
            scene.attacker.call(lambda: _send(packets))
            blocked = _blocked(scene, packets)
            sent = {item.packet.source: item.at for item in sniffer.take() if item.sent}
        finally:
            sniffer.close()
    return [(at - sent[source]) * 1000 for source, at in blocked.items() if source in sent]


def _send(packets: list[bytes]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for packet in packets:
            sock.sendto(packet, (VICTIM4, 0))
            time.sleep(PAUSE)


def _blocked(scene: Scene, packets: list[bytes]) -> dict[bytes, float]:
    """Source -> when its block was acknowledged, once the ledger has them all."""
    addresses = {address_text(packet[12:16]): packet[12:16] for packet in packets}
    end = time.monotonic() + PATIENCE
    while True:
        with Ledger(scene.config.paths.ledger) as ledger:
            entries = ledger.latest_blocks(addresses)
        if len(entries) == len(addresses) or time.monotonic() > end:
            return {addresses[text]: entry.blocked_at for text, entry in entries.items()}
        time.sleep(0.05)
