"""The drill: every attack, and whether it ended as promised."""

import ipaddress
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.model import Config, Detect
from sentryfw.engine.model import parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.record.records import DecisionRecord
from sentryfw.tools.drill import attacks
from sentryfw.tools.drill.attacks import ATTACKS, LISTED_PORT, Attack
from sentryfw.tools.drill.scene import OWN_PORT, SILENCE_S, VICTIM4, VICTIM6, Scene
from sentryfw.tools.drill.sniffer import Sighting, Sniffer, answers_after, probes

SETTLE_S: Final = 0.05
"""Seconds for the last answers to arrive."""


class AttackResult(NamedTuple):
    """The result of an attack."""

    scan: str
    """The option of nmap."""
    family: str
    source: str
    sent: int
    """Packets that the attacker sent."""
    recognised: str = "-"
    """The kinds of probes in the block; "-" without a block."""
    probes: int = 0
    """Probes before the block."""
    targets: int = 0
    """Targets in the block's evidence; the listed port's may be half a target."""
    targets_due: int = 0
    """Targets that make a scan of this kind, by the configuration."""
    answers_after: int = 0
    """Answers to packets that were sent after the block."""
    block_ms: float | None = None
    """Milliseconds from the first probe on the wire to the kernel's acknowledgement."""
    listed_port_closed: bool = False
    """Whether the listed port does not answer the blocked source."""
    own_connection: bool = False
    """Whether this host can still connect to the blocked source."""
    back_after_unblock: bool = False
    """Whether the listed port answers again after `unblock`."""
    ok: bool = False


class Step(NamedTuple):
    """An attack that begins."""

    number: int
    total: int
    attack: Attack
    family: int


class Progress(NamedTuple):
    """The functions that are called while a drill runs."""

    begins: Callable[[Step], None]
    ends: Callable[[AttackResult], None]


def plan() -> list[Step]:
    """Return every attack over IPv4 and IPv6, in their order."""
    pairs = [(attack, family) for family in (4, 6) for attack in ATTACKS]
    return [Step(number, len(pairs), *pair) for number, pair in enumerate(pairs, 1)]


def run(
    config: Config, progress: Progress, *, forge: bool, directory: Path | None = None
) -> list[AttackResult]:
    """Run every attack over IPv4 and IPv6, and return the results. `directory`: see Scene."""
    tool = attacks.tool(forge=forge)
    results = []
    with Scene(config, directory) as stage:
        sniffer = Sniffer(stage.attacker, "veth0")
        try:
            for step in plan():
                progress.begins(step)
                results.append(
                    drill_one(stage, sniffer, step.attack, step.family, step.number, tool)
                )
                progress.ends(results[-1])
        finally:
            sniffer.close()
    return results


def drill_one(
    stage: Scene, sniffer: Sniffer, attack: Attack, family: int, number: int, tool: str
) -> AttackResult:
    """Run one attack from a new source, and return the result."""
    target = VICTIM4 if family == 4 else VICTIM6
    due = _targets_due(stage.config.detect, attack)
    source = stage.take_address(number, family)
    blockable = source_text(parse_source(source, LINK_LOCAL_ONLY))
    sniffer.take()
    if tool == "nmap":
        attacks.scan_with_nmap(stage.attacker, attack, target)
    else:
        attacks.scan_forged(stage.attacker, attack, source, target)
    over = time.time()
    entry = stage.block_of(blockable, over)
    closed = not stage.reaches(stage.attacker, source, target, LISTED_PORT, SILENCE_S)
    own = stage.reaches(stage.victim, target, source, OWN_PORT)
    time.sleep(SETTLE_S)
    sightings = _of(sniffer.take(), source)
    unblocked = stage.command("unblock", blockable).returncode == 0
    back = unblocked and stage.reaches(stage.attacker, source, target, LISTED_PORT)
    sent = [item for item in probes(sightings) if item.at < over]
    result = AttackResult(
        scan=attack.option,
        family=f"ipv{family}",
        source=source,
        sent=len(sent),
        targets_due=due,
        listed_port_closed=closed,
        own_connection=own,
        back_after_unblock=back,
    )
    if entry is None or not sent:
        return result
    late = answers_after(sightings, entry.blocked_at)
    in_time = _is_in_time(entry, due)
    good = attack.kind in entry.kinds and in_time and late == 0 and closed and own and back
    return result._replace(
        recognised=",".join(entry.kinds),
        probes=entry.probes,
        targets=entry.targets,
        answers_after=late,
        block_ms=round((entry.blocked_at - sent[0].at) * 1000, 3),
        ok=good,
    )


def _targets_due(detect: Detect, attack: Attack) -> int:
    return detect.triggers.get(attack.kind, detect.trigger)


def _is_in_time(entry: DecisionRecord, due: int) -> bool:
    """Return whether the block came at its last target: not sooner, except by a decoy's proof.

    The drill's sources are of one network; when that is noticed, two targets of one suffice.
    """
    most = due + any(text.endswith(f"/{LISTED_PORT}") for text in entry.sample)
    least = min(due, 2) if entry.scan == "distributed-scan" else due
    return entry.targets <= most and (entry.targets >= least or "connect" in entry.kinds)


def _of(sightings: list[Sighting], source: str) -> list[Sighting]:
    """Return the packets from and to a source, without those of this host's own connection."""
    address = ipaddress.ip_address(source).packed
    return [
        item
        for item in sightings
        if address in (item.packet.source, item.packet.target)
        and OWN_PORT not in ((item.packet.sport,) if item.sent else (item.packet.dport,))
    ]
