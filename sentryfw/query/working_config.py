"""The configuration that a command works by: that of the files, or another while they have a fault.

In place of faulty files: the running daemon's own, else the last good one, else the defaults. The
daemon's user must not decide what root does, so of the daemon's answer neither the paths nor the
reactions count.

See docs/decisions.md: last-good.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.model import Config, Paths
from sentryfw.config.respond import Respond
from sentryfw.control.client import ask
from sentryfw.errors import ConfigError, NoPrivilege, SentryError
from sentryfw.host import last_good
from sentryfw.query.named_paths import named_paths

MAX_FAULT_CHARS: Final = 300
UNREADABLE: Final = os.strerror(errno.EACCES)

Warn = Callable[[str], None]


def working_config(path: Path | None, warn: Warn) -> Config:
    """Return the configuration to work by; `warn` is called once if it is not that of the files.

    `path`: the named file; None: the default one. Raise ConfigError if the named file does not
    exist and was never in use.
    """
    try:
        return config.load(path)
    except ConfigError as error:
        found, source = _instead(path, error)
        if source:
            warn(f"warning: {first_fault(error)}; {source}")
        return found


def stored_config(path: Path | None) -> Config:
    """Return the configuration of the files, else the last good one, else the defaults; no daemon
    is asked."""
    try:
        return config.load(path)
    except ConfigError:
        return last_good.load(path) or Config(paths=named_paths(path or config.DEFAULT_PATH))


def _instead(path: Path | None, error: ConfigError) -> tuple[Config, str]:
    """Return a configuration in place of the faulty one, and where it is from."""
    good = last_good.load(path)
    if good is None and path is not None and not os.path.lexists(path):
        raise error  # the name is wrong, not the configuration
    respond = Respond() if good is None else good.respond
    is_hidden = os.geteuid() != 0 and UNREADABLE in error.faults
    for paths in _candidates(path, good):
        running = _running(paths)
        if running is not None:
            known = running.model_copy(update={"paths": paths, "respond": respond})
            return known, "" if is_hidden else "the running daemon's configuration is used"
    if is_hidden and good is None:
        raise NoPrivilege(f"{error.files[0]}: only root can read it: run this with sudo")
    if good is not None:
        return good, f"the last good configuration is used ({last_good.place_of(path)})"
    paths = named_paths(path or config.DEFAULT_PATH)
    return Config(paths=paths), "the defaults are used: there is no last good configuration"


def _candidates(path: Path | None, good: Config | None) -> Iterator[Paths]:
    """Yield the paths where a daemon may listen, each once."""
    named = named_paths(path or config.DEFAULT_PATH)
    yield from dict.fromkeys([*([] if good is None else [good.paths]), named, Paths()])


def _running(paths: Paths) -> Config | None:
    """Return the configuration of the daemon with these paths; None if there is none."""
    try:
        answer = ask(paths.control, {"do": "config"})
        return Config.model_validate(answer.get("config"))
    except (SentryError, ValueError):  # ValueError: of another version
        return None


def first_fault(error: ConfigError) -> str:
    """Return the first fault of a configuration, with its file, as one line."""
    more = len(error.faults) - 1
    rest = f" (and {more} more: `sentryfw check`)" if more else ""
    fault = error.faults[0]
    shown = fault if len(fault) <= MAX_FAULT_CHARS else f"{fault[:MAX_FAULT_CHARS]}..."
    return f"{error.files[0]}: {shown}{rest}"
