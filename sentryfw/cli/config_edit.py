"""Write a changed file of conf.d, let the daemon load it, and restore the old one if it refuses."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.edit import Edited, place_of
from sentryfw.config.files import MAX_CONFIG_BYTES, flatten
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, NoPrivilege, NotRunning, SentryError
from sentryfw.host.private_files import open_no_link

UNCHANGED: Final = "nothing was changed"

Edit = Callable[[], Edited]
Apply = Callable[[Edited], str]


def change(path: Path | None, edit: Edit, apply: Apply) -> list[str]:
    """Make a change, write it, apply it; return lines for the operator.

    Raise SentryError if the change or the daemon refuses; then the file is as it was. Raise
    ConfigError where the files have other faults, with which the change is written, not applied.
    """
    place = place_of(path)
    with _locked(place.parent):
        before = _bytes(place)
        edited = edit()
        _write(place, edited.text.encode(), _like(path))
        if edited.faults is not None:
            why = f"{place} is written, but not in use: the configuration has other faults"
            raise ConfigError(
                edited.faults.where,
                [*edited.faults.faults, why],
                [*edited.faults.files, edited.faults.where],
            )
        try:
            applied = apply(edited)
        except NotRunning:
            applied = "the daemon is not running: `sentryfw install` and its start apply this"
        except SentryError as error:
            _restore(place, before, _like(path))
            refused = SentryError(f"{error}\n{UNCHANGED}; with --no-reload it is written anyway")
            refused.exit_code = error.exit_code
            raise refused from None
    return [f"written to {place}", applied]


def value_text(edited: Edited, key: str) -> str:
    """Return a key with its value in the changed configuration, and where that is from."""
    if edited.loaded is None:
        return key
    where = tuple(key.split("."))
    values = dict(flatten(edited.loaded.config.model_dump(mode="json")))
    found = {path: value for path, value in values.items() if path[: len(where)] == where}
    origin = edited.loaded.sources.origin(where) or "default"
    shown = ", ".join(f"{'.'.join(path)} = {value!r}" for path, value in found.items())
    return f"{shown or key} ({origin})"


def complete_keys(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys that begin so, each with its default, for the shell's completion."""
    return [
        (key, f"default {value!r}")
        for path, value in flatten(Config().model_dump(mode="json"))
        if (key := ".".join(path)).startswith(incomplete)
    ]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock of conf.d, which is made if it is missing: one change at a time."""
    try:
        directory.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(directory, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _like(path: Path | None) -> os.stat_result | None:
    """Return the state of the configuration file, whose readers may read the new one."""
    try:
        return (path or config.DEFAULT_PATH).stat()
    except OSError:
        return None


def _bytes(place: Path) -> bytes | None:
    """Return the file as it is; None where it is missing."""
    try:
        with os.fdopen(open_no_link(place, os.O_RDONLY), "rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refusal(place, error) from None


def _write(place: Path, data: bytes, like: os.stat_result | None) -> None:
    """Replace the file, and flush it to disk."""
    made = place.with_name(f".{place.name}.new")
    try:
        made.unlink(missing_ok=True)
        descriptor = open_no_link(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if like is not None and os.geteuid() == 0:
                os.fchown(descriptor, -1, like.st_gid)
            mode = 0o644 if like is None else stat.S_IMODE(like.st_mode) & 0o644
            os.fchmod(descriptor, mode | 0o600)
            file.flush()
            os.fsync(descriptor)
        made.replace(place)
    except OSError as error:
        raise _refusal(place, error) from None


def _restore(place: Path, before: bytes | None, like: os.stat_result | None) -> None:
    if before is None:
        place.unlink()
    else:
        _write(place, before, like)


def _refusal(place: Path, error: OSError) -> SentryError:
    if isinstance(error, PermissionError):
        return NoPrivilege(f"{place}: {error.strerror}: run it with sudo; {UNCHANGED}")
    return SentryError(f"{place}: {error.strerror}; {UNCHANGED}")
