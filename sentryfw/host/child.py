"""Run one of our programs to its end, in a process of its own: what it needs is not kept here.

It reads a request as JSON from stdin, so that no secret is in a command line or an environment,
and writes its answer as JSON to stdout. It gets nothing of this process's directory or environment.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

PATH: Final = {"PATH": os.defpath}


class Ended(NamedTuple):
    """The end of a child."""

    answer: Any
    """The JSON value that it wrote; None if it wrote none."""
    status: int
    errors: str
    """Its error output."""


def command_of(module: str) -> list[str]:
    """Return the command that runs a module of ours; it imports nothing from elsewhere."""
    return [sys.executable, "-I", "-m", module]


def run(command: Sequence[str], request: object, timeout: float) -> Ended:
    """Run a child to its end. Raise OSError if it cannot be started, TimeoutExpired if it does not
    end in `timeout` seconds; then it is killed."""
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=False,
        cwd="/", env=PATH, timeout=timeout,
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    return Ended(answer, done.returncode, done.stderr)
