"""What the daemon tells who may not look at the kernel."""

from collections.abc import Iterator

from sentryfw import control
from sentryfw.config import Config
from sentryfw.control import Answer
from sentryfw.errors import NotRunning

ALONE = (
    "the daemon is not running, and without it only root can look at the kernel: start it"
    " (systemctl start sentryfw), or run this with sudo"
)


def ask(config: Config, request: Answer) -> Answer:
    """One answer. NotRunning without a daemon, NoPrivilege to who may not ask it."""
    try:
        return control.ask(config.paths.control, request)
    except NotRunning:
        raise NotRunning(ALONE) from None


def ask_stream(config: Config, request: Answer) -> Iterator[Answer]:
    """Many."""
    try:
        yield from control.ask_stream(config.paths.control, request)
    except NotRunning:
        raise NotRunning(ALONE) from None
