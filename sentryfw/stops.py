"""What keeps the daemon from starting: a panic, and a trial that nobody confirmed.

Both are files: in the runtime directory, which is always writable, and in the state directory,
which outlasts a reboot. `sentryfw install` ends both.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.account import acting_as_owner
from sentryfw.errors import SentryError

PANIC: Final = "panic"
TRIAL: Final = "trial.json"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_GIVEN: Final = "SENTRYFW_BOOT_ID"
"""In the environment of the service, whose sandbox (ProcSubset=pid) has no /proc/sys."""
MAX_TRIAL: Final = 4096


class Trial(NamedTuple):
    """An install that is taken back at its deadline, unless it is confirmed."""

    deadline: float
    """CLOCK_BOOTTIME: no wall clock moves it."""
    boot: str
    token: str
    """Tells this trial from a later one."""

    @property
    def left(self) -> float:
        """Seconds; none after a reboot."""
        if self.boot != boot_id():
            return 0.0
        return max(0.0, self.deadline - time.clock_gettime(time.CLOCK_BOOTTIME))


def boot_id() -> str:
    """Of this boot, as 32 hexadecimal digits."""
    return (os.environ.get(BOOT_ID_GIVEN) or BOOT_ID.read_text()).strip().replace("-", "")


def declare_panic(directories: Iterable[Path]) -> None:
    """No daemon starts from now on, whoever restarts it. What cannot be written is not."""
    for directory in directories:
        with contextlib.suppress(OSError):
            _write(directory / PANIC, b"")


def begin_trial(state: Path, seconds: float) -> Trial:
    """OSError where the state directory does not take it."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    trial = Trial(now + seconds, boot_id(), os.urandom(8).hex())
    _write(state / TRIAL, json.dumps(trial._asdict()).encode())
    return trial


def trial(state: Path) -> Trial | None:
    """The trial under way; None if there is none. A file that says nothing is one that is over."""
    try:
        with acting_as_owner(state), (state / TRIAL).open("rb") as file:
            fields = json.loads(file.read(MAX_TRIAL))
        return Trial(float(fields["deadline"]), str(fields["boot"]), str(fields["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Trial(0.0, "", "")


def end_trial(state: Path) -> None:
    _remove(state / TRIAL)


def clear(state: Path, runtime: Path) -> None:
    """Install says that all is well."""
    for path in (state / PANIC, runtime / PANIC):
        _remove(path)


def check(state: Path, runtime: Path) -> None:
    """SentryError if the daemon must not start."""
    if (state / PANIC).exists() or (runtime / PANIC).exists():
        raise SentryError("`sentryfw panic` was called: `sentryfw install` ends that")
    found = trial(state)
    if found is not None and not found.left:
        raise SentryError(
            "the trial install was not confirmed in time: `sentryfw install` installs for good"
        )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with acting_as_owner(path.parent):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o640)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with acting_as_owner(path.parent), contextlib.suppress(OSError):
        path.unlink()
