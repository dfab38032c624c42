"""Keep the daemon from starting: after `sentryfw panic`, and after a trial without confirmation.

Both are files: in the runtime directory, which is always writable, and in the state directory,
which survives a reboot. `sentryfw install` removes both.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.errors import NotInstalled, SentryError
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_no_link, read_as_owner

PANIC: Final = "panic"
TRIAL: Final = "trial.json"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_GIVEN: Final = "SENTRYFW_BOOT_ID"
"""An environment variable of the service, whose sandbox (ProcSubset=pid) hides /proc/sys."""
MAX_TRIAL_BYTES: Final = 4096


class Trial(NamedTuple):
    """An install that is undone at its deadline, unless it is confirmed."""

    deadline: float
    """Seconds of CLOCK_BOOTTIME, which is never set."""
    boot: str
    token: str
    """Distinguishes this trial from a later one."""
    goes_back: bool = False
    """Whether it ends in the install that was there before, with the last good configuration."""

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 after a reboot."""
        if self.boot != boot_id():
            return 0.0
        return max(0.0, self.deadline - time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """Return the id of this boot, as 32 hexadecimal digits."""
    return (os.environ.get(BOOT_ID_GIVEN) or BOOT_ID.read_text()).strip().replace("-", "")


def declare_panic(directories: Iterable[Path]) -> None:
    """Keep the daemon from starting, however it is started. Failures to write are ignored: the
    other directory may do."""
    for directory in directories:
        with contextlib.suppress(OSError):
            _write(directory / PANIC, b"")


def begin_trial(state: Path, seconds: float, *, goes_back: bool = False) -> Trial:
    """Write a trial that ends in `seconds`. Raise OSError if it cannot be written."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    trial = Trial(now + seconds, boot_id(), os.urandom(8).hex(), goes_back)
    _write(state / TRIAL, json.dumps(trial._asdict()).encode())
    return trial


def trial(state: Path) -> Trial | None:
    """Return the trial that runs, or None. A file that cannot be read is a trial that has ended."""
    try:
        fields = json.loads(read_as_owner(state / TRIAL, MAX_TRIAL_BYTES))
        return Trial(
            float(fields["deadline"]), str(fields["boot"]), str(fields["token"]),
            bool(fields.get("goes_back")),
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except (SentryError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return Trial(0.0, "", "")


def visible_trial(state: Path) -> Trial | None:
    """Return the trial; None also if the caller may not see it."""
    try:
        (state / TRIAL).stat()
    except OSError:
        return None
    return trial(state)


def end_trial(state: Path) -> None:
    """Confirm or cancel the trial."""
    _remove(state / TRIAL)


def clear(state: Path, runtime: Path) -> None:
    """End the panic, as `sentryfw install` does."""
    for path in (state / PANIC, runtime / PANIC):
        _remove(path)


def panic_at(state: Path, runtime: Path) -> float | None:
    """Return the time of a panic that is on; None without one, or if the caller may not see it."""
    for place in (state / PANIC, runtime / PANIC):
        with contextlib.suppress(OSError):
            return place.stat().st_mtime
    return None


def goes_back(state: Path) -> bool:
    """Return whether a trial has ended in the install that was there before."""
    found = trial(state)
    return found is not None and not found.left and found.goes_back


def check(state: Path, runtime: Path, *, goes_back: bool = False) -> None:
    """Raise NotInstalled if the daemon must not start. `goes_back`: with the configuration of
    before a trial it may."""
    if panic_at(state, runtime) is not None:
        raise NotInstalled("`sentryfw panic` has stopped it: run `sentryfw install` to start again")
    found = trial(state)
    if found is not None and not found.left and not goes_back:
        raise NotInstalled(
            "the trial install was not confirmed in time:"
            " run `sentryfw install` to install for good"
        )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with acting_as_owner(path.parent):
        descriptor = open_no_link(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with acting_as_owner(path.parent), contextlib.suppress(OSError):
        path.unlink()
