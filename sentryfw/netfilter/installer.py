"""install() in a Python of its own: for a daemon that runs already.

libnftables must not touch the daemon (apart.py), and once threads run, a fork without exec is no
way out. What is to be done goes in as JSON on stdin, what became of it comes out on stdout.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from ipaddress import ip_network
from typing import Any, Final

from sentryfw.config import Config
from sentryfw.errors import SentryError
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table

PATIENCE: Final = 60.0
"""Seconds; on two shared cores it takes less than one."""


def install_beside(config: Config, never_block: Iterable[Protected]) -> Divert:
    """Bring the table up to date; how packets get into the queue. SentryError with what the
    installer said: then the table is as it was, or the keeper repairs it."""
    order = {
        "config": config.model_dump(mode="json", exclude_none=True),
        "never_block": [[str(protected.network), protected.why] for protected in never_block],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "sentryfw.netfilter.installer"],
            input=json.dumps(order), capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.defpath}, timeout=PATIENCE,
        )  # fmt: skip
        answer = json.loads(done.stdout or "{}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise SentryError(f"the table could not be made: {error}") from error
    if "divert" not in answer:
        said = answer.get("error") or done.stderr.strip()[-500:] or f"status {done.returncode}"
        raise SentryError(f"the table could not be made: {said}")
    divert: Divert = answer["divert"]
    return divert


def main() -> None:
    """The child's side."""
    order = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        with closing(Table()) as table:
            protected = [Protected(ip_network(net), why) for net, why in order["never_block"]]
            made = install(table, Config.model_validate(order["config"]), protected)
        answer = {"divert": made.plan.divert}
    except SentryError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
