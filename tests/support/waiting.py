"""Polling with a deadline, for effects of other processes, which take some time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """Return the first true value of a condition. Raise AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what} (last: {value!r})")
        time.sleep(0.01)


def wait_for_text(path: Path, what: str, seconds: float = 10.0) -> str:
    """Return the text of a file that another process writes, once its last line is whole. A file
    that a shell has opened exists, and is empty, before anything is written to it."""

    def whole() -> str:
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else ""

    return wait_for(whole, what, seconds)
