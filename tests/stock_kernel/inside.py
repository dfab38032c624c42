"""Runs inside the emulated machine: the core of the namespace suite on a stock kernel.

Prints one line of JSON after MARK; the console mixes other output in.
"""

import json
import os
import subprocess
import time

from sentryfw.config.model import Config
from sentryfw.tools.drill import attacks
from sentryfw.tools.drill.run import drill_one
from sentryfw.tools.drill.scene import Scene
from sentryfw.tools.drill.sniffer import Sniffer

MARK = "STOCK-KERNEL-RESULT "
BOOTED = "STOCK-KERNEL-BOOTED"
ENDED = "STOCK-KERNEL-ENDED"
MODULES = (
    "nf_tables", "nft_queue", "nfnetlink_queue", "nft_ct", "nft_fib_inet", "nft_socket",
    "nft_limit", "veth",
)  # fmt: skip
SIX = ("-sS", "-sN")
"""Scans that run over IPv6 too; all would take too long in emulation."""
PATIENCE = 60.0


def main() -> None:
    print(BOOTED, flush=True)
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    plan = [(attack, 4) for attack in attacks.ATTACKS]
    plan += [(attack, 6) for attack in attacks.ATTACKS if attack.option in SIX]
    with Scene(Config()) as scene:
        status = json.loads(scene.command("status", "--json").stdout)
        sniffer = Sniffer(scene.attacker, "veth0")
        try:
            results = [
                drill_one(scene, sniffer, attack, family, number, "nmap")._asdict()
                for number, (attack, family) in enumerate(plan, 1)
            ]
        finally:
            sniffer.close()
        found = {
            "kernel": os.uname().release,
            "divert": status["divert"],
            "attacks": results,
            "healed": heals(scene),
            "uninstalled": uninstalls(scene),
        }
    print(MARK + json.dumps(found), flush=True)


def heals(scene: Scene) -> bool:
    """Return whether a flush of the whole ruleset is repaired, blocks included, and nothing was
    before: this kernel reports the elements as they are planned."""
    scene.command("block", "203.0.113.7", "--timeout", "1h")
    scene.victim.run("nft", "add", "element", "inet", "sentryfw", "never_block4", "{ 192.0.2.77 }")
    scene.victim.run("nft", "flush", "ruleset")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        listed = scene.victim.run("nft", "list", "set", "inet", "sentryfw", "block4")
        if "203.0.113.7" in listed.stdout and repairs(scene) == 1:
            return True
        time.sleep(0.5)
    return False


def repairs(scene: Scene) -> int:
    """Return how often the table was repaired since the daemon started."""
    count: int = json.loads(scene.command("status", "--json").stdout)["healed"]["count"]
    return count


def uninstalls(scene: Scene) -> bool:
    """Return whether uninstall stops the daemon and leaves no table."""
    done = scene.command("uninstall")
    tables = scene.victim.run("nft", "list", "tables").stdout
    return done.returncode == 0 and "sentryfw" not in tables


if __name__ == "__main__":
    try:
        main()
    finally:
        print(ENDED, flush=True)
