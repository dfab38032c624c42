"""install --trial: taken back by itself unless `sentryfw confirm` follows.

A process of its own waits for the deadline: it outlives the session (setsid, or a unit of its
own where systemd runs) and the daemon. A reboot ends a trial too: the table is gone, and the
daemon refuses to start (stops.py).
"""

import shutil
import subprocess
import sys
import syslog
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentryfw import config as configuration
from sentryfw import stops
from sentryfw.cli import panic, service, setup
from sentryfw.config import Config
from sentryfw.errors import NotFound, SentryError
from sentryfw.netfilter.table import Table

POLL: Final = 0.5
LEAST: Final = 1.0

Say = Callable[[str], None]


def begin(
    config: Config, path: Path | None, seconds: float, say: Say, *, with_service: bool
) -> None:
    """Install, with a watchdog set before anything has an effect."""
    setup.clear(config)
    try:
        trial = stops.begin_trial(config.paths.state, max(LEAST, seconds))
    except OSError as error:
        raise SentryError(f"no trial without its mark: {error}; nothing was changed") from error
    _spawn(config.paths.state, trial.token, path)
    try:
        setup.run_install(config, Table(), path, say, service=with_service, trial=True)
    except BaseException:
        stops.end_trial(config.paths.state)
        raise
    say(f"on trial: taken back in {seconds:g} s unless you run `sentryfw confirm`")


def confirm(config: Config) -> None:
    """The install stays. NotFound if none is on trial."""
    trial = stops.trial(config.paths.state)
    if trial is None or not trial.left:
        raise NotFound("no install is on trial: it was confirmed, or taken back")
    stops.end_trial(config.paths.state)


def _spawn(state: Path, token: str, path: Path | None) -> None:
    words = [sys.executable, "-m", __name__, str(state), token, str(path or "")]
    if service.SYSTEMD.is_dir() and shutil.which("systemd-run"):
        # logind may end what a session leaves behind; a unit of its own stays.
        unit = ["systemd-run", "--quiet", "--collect", f"--unit=sentryfw-trial-{token}"]
        if not subprocess.run([*unit, *words], capture_output=True, check=False).returncode:
            return
    subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd="/",
    )  # fmt: skip


def watch(state: Path, token: str, path: Path | None) -> None:
    """The watchdog: wait, and take back."""
    while True:
        trial = stops.trial(state)
        if trial is None or (trial.token and trial.token != token):
            return  # confirmed, or another trial has begun
        if not trial.left:
            break
        time.sleep(min(POLL, trial.left))
    syslog.openlog("sentryfw", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, "the trial was not confirmed: taken back")
    take_back(path, lambda text: syslog.syslog(syslog.LOG_WARNING, text))


def take_back(path: Path | None, say: Say) -> None:
    """Uninstall; and if anything at all is in its way, panic. The mark stays: no daemon starts."""
    try:
        setup.run_uninstall(configuration.load(path), Table(), path, say, purge=False)
    except Exception as error:  # noqa: BLE001 - nobody is there to be told
        say(f"uninstall failed ({error}): panic")
        panic.panic(path, say)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) if sys.argv[3] else None)
