"""install --trial: an install that is removed at a deadline, unless `sentryfw confirm` is run.

A separate process waits for the deadline. It outlives the session (setsid, or a separate unit if
systemd is running) and the daemon. A reboot ends a trial, too: the table is gone, and the daemon
refuses to start (host/inhibit.py).

See docs/decisions.md: trial-end.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import syslog
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentryfw.config.model import Config
from sentryfw.errors import NotFound, SentryError
from sentryfw.host import inhibit, last_good, privileges
from sentryfw.netfilter.table import Table
from sentryfw.query.working_config import stored_config
from sentryfw.respond.undo import undo_all
from sentryfw.setup import install, panic, service

POLL_S: Final = 0.5
MIN_TRIAL_S: Final = 1.0

Say = Callable[[str], None]

log = logging.getLogger(__name__)


def begin(
    config: Config, path: Path | None, seconds: float, say: Say, *, with_service: bool
) -> None:
    """Install on trial. The process that ends the trial starts before anything has an effect. Over
    an install that was confirmed, the trial ends in that install."""
    goes_back = _is_confirmed(config, path)
    install.clear(config)
    try:
        state = config.paths.state
        trial = inhibit.begin_trial(state, max(MIN_TRIAL_S, seconds), goes_back=goes_back)
    except OSError as error:
        raise SentryError(
            f"cannot write the mark of the trial: {error}; nothing was changed"
        ) from error
    _spawn(config.paths.state, trial.token, path)
    try:
        install.run_install(config, Table(), path, say, service=with_service, trial=True)
    except BaseException:
        inhibit.end_trial(config.paths.state)
        raise
    end = "the install of before is back" if goes_back else "uninstalled"
    say(f"on trial: {end} in {seconds:g} s unless you run `sentryfw confirm`")


def _is_confirmed(config: Config, path: Path | None) -> bool:
    """Return whether an install is there that was not on trial, and its configuration is kept."""
    paths = config.paths
    if inhibit.trial(paths.state) or inhibit.panic_at(paths.state, paths.runtime) is not None:
        return False
    with contextlib.closing(Table()) as table:
        is_there = table.is_installed() and not table.is_switched_off()
    return is_there and last_good.load(path) is not None


def confirm(config: Config) -> None:
    """Keep the install. Raise NotFound if none is on trial."""
    privileges.require_root()
    trial = inhibit.trial(config.paths.state)
    if trial is None or not trial.left:
        raise NotFound("no install is on trial: it was confirmed, or uninstalled")
    inhibit.end_trial(config.paths.state)


def _spawn(state: Path, token: str, path: Path | None) -> None:
    words = [sys.executable, "-I", "-m", __name__, str(state), token, str(path or "")]
    if service.SYSTEMD.is_dir() and shutil.which("systemd-run"):
        # logind may end the processes of a session; a separate unit stays.
        unit = ["systemd-run", "--quiet", "--collect", f"--unit=sentryfw-trial-{token}"]
        if not subprocess.run([*unit, *words], capture_output=True, check=False).returncode:
            return
    subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd="/",
    )  # fmt: skip


def watch(state: Path, token: str, path: Path | None) -> None:
    """Wait for the deadline of a trial, and uninstall; return early if the trial is over."""
    while True:
        trial = inhibit.trial(state)
        if trial is None or (trial.token and trial.token != token):
            return  # confirmed, or another trial has begun
        if not trial.left:
            break
        time.sleep(min(POLL_S, trial.left))
    syslog.openlog("sentryfw", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, "the trial was not confirmed: it ends")
    say: Say = lambda text: syslog.syslog(syslog.LOG_WARNING, text)  # noqa: E731
    end_trial(path, say, goes_back=trial.goes_back)


def end_trial(path: Path | None, say: Say, *, goes_back: bool = False) -> None:
    """Uninstall, or install as before; panic if that fails for any reason. The mark stays: no
    daemon starts, or one starts with the last good configuration."""
    good = last_good.load(path) if goes_back else None
    try:
        if good is not None:
            undo_all(path, stored_config(path).respond)  # the daemon writes its own again
            has = service.is_installed()
            install.run_install(good, Table(), path, say, service=has, trial=True)
            return
        install.run_uninstall(stored_config(path), Table(), path, say, purge=False)
    except Exception as error:
        log.exception("uninstall failed")
        say(f"uninstall failed ({error!r}): panic follows")
        panic.panic(path, say)


def main() -> None:
    """Wait for the deadline of a trial: the process that begin() starts."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    watch(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if sys.argv[3] else None)


if __name__ == "__main__":
    main()
