"""Load the table in a separate Python process, for the daemon: at its start and at a reload.

libnftables ends the process it is in when it cannot open a socket, and leaves megabytes behind that
are needed once. A child forked without exec is not an alternative once threads run. The child reads
a rendered ruleset from stdin and writes an answer to stdout, both JSON. It imports neither the
configuration nor pydantic, which would take it longer than the rest of its work.

See docs/decisions.md: libnftables-child.
"""

import json
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from sentryfw import errors
from sentryfw.errors import SentryError
from sentryfw.host import child
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.load import load
from sentryfw.netfilter.script import Ruleset
from sentryfw.netfilter.table import Table

if TYPE_CHECKING:
    from sentryfw.config.model import Config
    from sentryfw.engine.networks import NetworkIndex

COMMAND: Final = child.command_of("sentryfw.netfilter.install_process")
ANSWER_TIMEOUT_S: Final = 60.0
"""On two shared cores the child takes less than a second."""
START_TIMEOUT_S: Final = 900.0
"""An update from an older schema adds each live block: 15 s for 200,000 (measured)."""
MAX_ERROR_CHARACTERS: Final = 500


def install_in_subprocess(
    config: "Config", never_block: "NetworkIndex", timeout: float = ANSWER_TIMEOUT_S
) -> Divert:
    """Install or update the table; return the way in which packets reach the queue.

    Raise the SentryError that load() raised in the child, with its class and so its exit code.
    A SentryError of the child's own failure leaves the table as it was, or to be repaired.
    """
    # The child does not need them.
    from sentryfw.host.whole6 import onlink  # noqa: PLC0415
    from sentryfw.netfilter.ruleset import render  # noqa: PLC0415

    ruleset = render(config, never_block, onlink())
    try:
        ended = child.run(COMMAND, ruleset, timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SentryError(f"cannot install the table: {error}") from error
    answer = ended.answer or {}
    if "divert" not in answer:
        reason = answer.get("error") or ended.errors.strip()[-MAX_ERROR_CHARACTERS:]
        kind = getattr(errors, answer.get("kind", ""), SentryError)
        raise kind(f"cannot install the table: {reason or f'status {ended.status}'}")
    divert: Divert = answer["divert"]
    return divert


def main() -> None:
    """Read a ruleset, load it, and write the answer: the child's part."""
    defines, body, queue_rule, queue_number, never_block = json.load(sys.stdin)
    four, six = ([(first, last) for first, last in ranges] for ranges in never_block)
    ruleset = Ruleset(defines, body, queue_rule, queue_number, (four, six))
    answer: dict[str, Any]
    try:
        with closing(Table()) as table:
            answer = {"divert": load(table, ruleset).plan.divert}
    except SentryError as error:
        answer = {"error": str(error), "kind": _kind(error)}
    json.dump(answer, sys.stdout)


def _kind(error: SentryError) -> str:
    """Return the name of a class with the error's exit code that takes a message alone."""
    return next(
        kind.__name__
        for kind in (errors.NoPrivilege, errors.NotInstalled, errors.Unsupported, SentryError)
        if isinstance(error, kind)
    )


if __name__ == "__main__":
    main()
