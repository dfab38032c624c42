"""The signals that end a program: who answers them, and when.

A handler in Python that raises is unreliable: it runs between any two instructions, and an
exception in a finalizer, in a hook of os.fork() or in logging's release of its lock is lost. So no
handler raises. By default the kernel ends the process. A change in several steps holds the signals
until its end.

See docs/decisions.md: no-raising-handlers.
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""


def leave_to_kernel() -> None:
    """Let the kernel end this process at SIGINT, as it does at SIGTERM. A SIGINT that the parent
    ignores stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold the signals back from this thread in the context: they act when it ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
