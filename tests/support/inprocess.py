"""Run the command line in this process, as its console script does, with its own stdio.

A call costs milliseconds, where a Python process costs half a second. What a call changes of the
process (arguments, environment, stdio, signal handlers, garbage collection, logging) is restored
when it ends.
"""

import contextlib
import gc
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

from sentryfw import config
from sentryfw.cli import app
from sentryfw.host import account
from sentryfw.netfilter import libnftables
from sentryfw.setup import service

SERVICE_USER: Final = "daemon"
"""A system user that every host has, in place of `sentryfw`: no test makes a user."""
UNPRIVILEGED: Final = 65534
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
EXECUTE: Final = "run"
"""The command that replaces its process by the daemon."""


class Terminal(io.StringIO):
    """Standard output that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Stdio:
    """Standard output and error of one call."""

    def __init__(self, out: io.StringIO | None = None) -> None:
        self.out = out or io.StringIO()
        self.error = io.StringIO()


def call(
    words: Sequence[str | Path], *, env: Mapping[str, str], program: str | Path, stdio: Stdio
) -> int:
    """Run the command line; return its exit code. What main() does not catch is raised."""
    arguments = [str(word) for word in words]
    assert EXECUTE not in arguments, "`run` would replace this process: use Box.spawn"
    with _own_process_state(env, [str(program), *arguments], stdio):
        return _exit_code(app.main, stdio)


def completed(words: Sequence[str | Path], code: int, stdio: Stdio) -> CompletedProcess[str]:
    out, error = stdio.out.getvalue(), stdio.error.getvalue()
    return CompletedProcess([str(word) for word in words], code, out, error)


@contextlib.contextmanager
def moved(home: Path) -> Iterator[None]:
    """Move what SentryFW keeps outside its [paths] below a directory; no test may touch /etc."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "DEFAULT_PATH", home / "etc" / "sentryfw.toml")
        patch.setattr(account, "USER", SERVICE_USER)
        patch.setattr(service, "ETC", home / "system")
        patch.setattr(service, "VENDOR", home / "vendor")
        patch.setattr(service, "SYSTEMD", home / "systemd")
        yield


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root and its capabilities for a while."""
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(UNPRIVILEGED)
    os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def hide_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this host lack libnftables' Python binding."""
    monkeypatch.setitem(sys.modules, "nftables", None)
    monkeypatch.setattr(libnftables, "DISTRIBUTION_COPIES", ())


def _exit_code(main: Callable[[], None], stdio: Stdio) -> int:
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            stdio.error.write(f"{end.code}\n")
            return 1
        return end.code or 0
    return 0


@contextlib.contextmanager
def _own_process_state(
    env: Mapping[str, str], arguments: list[str], stdio: Stdio
) -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    thresholds, umask = gc.get_threshold(), os.umask(0o022)
    log = logging.StreamHandler(stdio.error)  # as Python's handler of last resort writes
    log.setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in os.environ.keys() - env.keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", arguments)
        stack.enter_context(contextlib.redirect_stdout(stdio.out))
        stack.enter_context(contextlib.redirect_stderr(stdio.error))
        stack.enter_context(warnings.catch_warnings())
        # A process leaves its sockets to the kernel.
        warnings.simplefilter("ignore", ResourceWarning)
        logging.getLogger("sentryfw").addHandler(log)
        gc.freeze()
        try:
            yield
        finally:
            gc.collect()  # of this call's objects alone: sockets in cycles
            logging.getLogger("sentryfw").removeHandler(log)
            os.umask(umask)
            gc.unfreeze()
            gc.set_threshold(*thresholds)
            for number, handler in handlers.items():
                signal.signal(number, handler)
