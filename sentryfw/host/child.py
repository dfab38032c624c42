"""Run one of our programs to its end, in a process of its own: what it needs is not kept here.

It reads a request as JSON from stdin, so that no secret is in a command line or an environment,
and writes its answer as JSON to stdout. It gets nothing of this process's directory or environment.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")
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


def send(
    make: Callable[..., T], command: Sequence[str], request: object, timeout: float,
    spare: float = 0.0,
) -> T:  # fmt: skip
    """Run a child that sends something; return make(**answer), or make(reason) if that failed.

    It is killed after `timeout` and `spare` seconds; the reason names `timeout`. No reason quotes
    the child's error output, in which a secret may be.
    """
    try:
        ended = run(command, request, timeout + spare)
        return make(**ended.answer)
    except subprocess.TimeoutExpired:
        return make(f"no end within {timeout:g}s")
    except OSError as error:
        return make(f"cannot start a process: {error.strerror}")
    except TypeError:  # no answer, or none of ours
        return make(f"the process that sends ended with status {ended.status}")
