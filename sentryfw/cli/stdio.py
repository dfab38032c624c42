"""Standard input, output and error of a command: closed, full, or of another encoding.

A command ends with exit code 1 if its output cannot be written, and never with a traceback: Python
itself would find a full disk or a closed pipe when it flushes the streams at its exit.
"""

import contextlib
import io
import os
import sys
from typing import TextIO

from sentryfw.errors import SentryError


def prepare() -> None:
    """Open what the caller has closed, so that no other file gets its descriptor; let no character
    that the terminal's encoding lacks be an error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # To standard output, as to one that is open for reading, a write fails (EBADF).
            mode = os.O_WRONLY if number == 2 else os.O_RDONLY
            os.open(os.devnull, mode)  # the lowest free descriptor: this one
    sys.stdin = sys.stdin or _reopened(0, "r")
    sys.stdout = sys.stdout or _reopened(1, "w")
    sys.stderr = sys.stderr or _reopened(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def finish(code: int) -> int:
    """Flush the streams; return the exit code: `code`, or 1 where standard output failed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as of `sentryfw list | head`: the reader has seen enough
        code = SentryError.exit_code
        silence(sys.stdout)
    except OSError as error:
        code = SentryError.exit_code
        silence(sys.stdout)
        complain(f"sentryfw: standard output cannot be written: {error.strerror}")
    try:
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    return code


def is_broken() -> bool:
    """Return whether standard output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def complain(line: str) -> None:
    """Write a line to standard error, if that can be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")


def silence(stream: TextIO) -> None:
    """Lead a stream that failed to /dev/null: its buffer is flushed once more at the exit."""
    with contextlib.suppress(OSError):  # a stream without a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _reopened(number: int, mode: str) -> TextIO:
    return io.TextIOWrapper(open(number, f"{mode}b", closefd=False))
