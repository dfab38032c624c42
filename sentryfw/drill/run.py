"""The drill from beginning to end: attack by attack, what was promised and what was seen."""

import ipaddress
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from sentryfw.config import Config
from sentryfw.drill import attacks
from sentryfw.drill.attacks import ATTACKS, Attack
from sentryfw.drill.scene import LISTED_PORT, OWN_PORT, SILENCE, VICTIM4, VICTIM6, Scene
from sentryfw.drill.sniffer import Sighting, Sniffer, answers_after, probes
from sentryfw.engine.model import parse_source, source_text

Progress = Callable[[str], None]
SETTLE: Final = 0.05
"""Seconds for the last answers to arrive."""


class Result(NamedTuple):
    """One attack: what was sent, what was recognised, and what held."""

    scan: str
    """nmap's option."""
    family: str
    source: str
    sent: int
    """Packets that the attacker sent."""
    recognised: str
    """The kinds the engine named, - for none."""
    probes: int
    """Until the block."""
    answers_after: int
    """Answers to what was sent after the block."""
    block_ms: float | None
    """From the first probe on the wire to the kernel's acknowledgement."""
    listed_port_closed: bool
    own_connection: bool
    """Ours to the blocked host still works."""
    back_after_unblock: bool
    ok: bool


def run(config: Config, progress: Progress, *, forge: bool) -> list[Result]:
    """Every attack over IPv4 and IPv6; what came of each."""
    tool = "scapy" if forge or not attacks.nmap_is_there() else "nmap"
    progress(f"two private hosts, your configuration, the real daemon; attacks by {tool}")
    results = []
    with Scene(config) as stage:
        sniffer = Sniffer(stage.attacker, "veth0")
        try:
            plan = [(attack, family) for family in (4, 6) for attack in ATTACKS]
            for number, (attack, family) in enumerate(plan, 1):
                progress(f"[{number:2}/{len(plan)}] {attack.option} over IPv{family}")
                results.append(drill_one(stage, sniffer, attack, family, number, tool))
        finally:
            sniffer.close()
    return results


def drill_one(
    stage: Scene, sniffer: Sniffer, attack: Attack, family: int, number: int, tool: str
) -> Result:
    target = VICTIM4 if family == 4 else VICTIM6
    source = stage.take_address(number, family)
    blockable = source_text(parse_source(source))
    sniffer.take()
    if tool == "nmap":
        attacks.scan_with_nmap(stage.attacker, attack, target)
    else:
        attacks.scan_with_scapy(stage.attacker, attack, source, target)
    over = time.time()
    entry = stage.block_of(blockable, over)
    closed = not stage.reaches(stage.attacker, source, target, LISTED_PORT, SILENCE)
    own = stage.reaches(stage.victim, target, source, OWN_PORT)
    time.sleep(SETTLE)
    sightings = _of(sniffer.take(), source)
    unblocked = stage.command("unblock", blockable).returncode == 0
    back = unblocked and stage.reaches(stage.attacker, source, target, LISTED_PORT)
    sent = [item for item in probes(sightings) if item.at < over]
    if entry is None or not sent:
        return Result(
            attack.option, f"ipv{family}", source, len(sent), "-", 0, 0, None, closed, own, back,
            ok=False,
        )  # fmt: skip
    late = answers_after(sightings, entry.blocked_at)
    good = attack.kind in entry.kinds and late == 0 and closed and own and back
    return Result(
        attack.option, f"ipv{family}", source, len(sent), ",".join(entry.kinds), entry.probes,
        late, round((entry.blocked_at - sent[0].at) * 1000, 3), closed, own, back, ok=good,
    )  # fmt: skip


def _of(sightings: list[Sighting], source: str) -> list[Sighting]:
    """Only what has to do with this attack's source, our own connection to it aside."""
    address = ipaddress.ip_address(source).packed
    return [
        item
        for item in sightings
        if address in (item.packet.source, item.packet.target)
        and OWN_PORT not in ((item.packet.sport,) if item.sent else (item.packet.dport,))
    ]
