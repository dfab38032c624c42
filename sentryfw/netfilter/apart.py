"""Call a function in a forked child and have its result: for what must not touch this process.

libnftables ends the process it is in when it cannot open a socket, and leaves megabytes behind
that it needed once; the daemon lets a child of its own use it.
"""

import os
import pickle
import signal
from collections.abc import Callable
from typing import TypeVar

from sentryfw.errors import SentryError

T = TypeVar("T")


def apart(function: Callable[[], T]) -> T:
    """The function's result, or the SentryError it raised. Call it before threads are started."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(child, 0)[1]
    if not data:
        raise SentryError(f"the child that was to do it ended with status {status}")
    result = pickle.loads(data)  # noqa: S301 - from our own child, through our own pipe
    if isinstance(result, SentryError):
        raise result
    return result  # type: ignore[no-any-return]


def _answer(function: Callable[[], T], writer: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    result: T | SentryError
    try:
        result = function()
    except SentryError as error:
        result = error
    except Exception as error:  # noqa: BLE001 - it travels to the parent as what it is
        result = SentryError(repr(error))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(pickle.dumps(result))
    os._exit(0)
