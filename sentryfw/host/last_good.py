"""The last good configuration: a copy that root's `install`, `confirm` or `reload` wrote.

Commands use it while the files have a fault. Root acts by it, so the daemon's user has no part in
it: only root writes it, and one that another user could have written is ignored. It is one TOML
file in a directory of its own, where no conf.d is added to it. Beside it are the checked values,
which most commands take while the files are the same (config/plain/checked_values.py).

See docs/decisions.md: last-good, checked-values.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentryfw import config
from sentryfw.config import files
from sentryfw.config.files import MAX_CONFIG_BYTES
from sentryfw.config.plain import checked_values
from sentryfw.config.toml_text import to_text
from sentryfw.errors import ConfigError, SentryError
from sentryfw.host.private_files import open_no_link

if TYPE_CHECKING:
    from sentryfw.config.model import Config

DIRECTORY: Final = "last-good"
MAX_CHECKED_BYTES: Final = 16 << 20
_HEAD: Final = """\
# The last configuration without a fault that was in use, merged from its files. `sentryfw install`
# and `sentryfw reload` write it; commands use it while the files have a fault.
"""


def place_of(path: Path | None) -> Path:
    """Return the path of the copy of a configuration; None: of the default one."""
    path = path or config.DEFAULT_PATH
    return path.parent / DIRECTORY / path.name


def checked_values_of(path: Path | None) -> Path:
    """Return the path of the checked values of a configuration."""
    place = place_of(path)
    return place.with_name(f"{place.name}.checked")


def save(path: Path | None, loaded: config.Loaded) -> None:
    """Write the copy and the checked values, readable by those who can read the files. Without
    files and without their directory there is nothing to keep. Raise SentryError."""
    place = place_of(path)
    sources = loaded.sources
    if not sources.files and not place.parent.parent.exists():
        return
    try:
        place.parent.mkdir(mode=0o755, exist_ok=True)
        _replace(place, (_HEAD + to_text(sources.table)).encode(), sources.files)
        values = checked_values.packed(sources.table, loaded.config)
        _replace(checked_values_of(path), values, sources.files)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SentryError(f"{place}: {reason}: no copy of the configuration is kept") from error


def checked(path: Path | None) -> checked_values.CheckedValues | None:
    """Return the checked values of the files as they are; None if there are none for them, or none
    that can be trusted. Raise ConfigError if the files cannot be read or are not TOML."""
    data = _read(checked_values_of(path), MAX_CHECKED_BYTES)
    if data is None:
        return None
    sources = files.read(path or config.DEFAULT_PATH, optional=path is None)
    return checked_values.unpacked(data, sources.table)


def load(path: Path | None) -> "Config | None":
    """Return the last good configuration; None if there is none that can be trusted."""
    place = place_of(path)
    data = _read(place, MAX_CONFIG_BYTES)
    if data is None:
        return None
    try:
        return config.parse(data, str(place))
    except ConfigError:  # of a version with other keys
        return None


def usable(path: Path | None) -> "Config":
    """Return the configuration; the last good one while the files have a fault. Raise ConfigError
    without one."""
    try:
        return config.load(path)
    except ConfigError:
        good = load(path)
        if good is None:
            raise
        return good


def delete(path: Path | None) -> list[Path]:
    """Delete the copy, and its directory if that is empty then; return what was deleted."""
    place = place_of(path)
    removed = []
    for file in (checked_values_of(path), place):
        with contextlib.suppress(OSError):
            file.unlink()
            removed.append(file)
    with contextlib.suppress(OSError):
        place.parent.rmdir()
        removed.append(place.parent)
    return removed


def _replace(place: Path, data: bytes, files: tuple[str, ...]) -> None:
    """Replace a file, readable by those who can read all of these files."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    descriptor = open_no_link(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        _allow_readers(descriptor, files)
    new.replace(place)


def _read(place: Path, most: int) -> bytes | None:
    """Return the bytes of a file, at most `most` and one; None if it cannot be trusted."""
    try:
        with os.fdopen(open_no_link(place, os.O_RDONLY), "rb") as file:
            if not all(
                _is_ours(status) for status in (os.fstat(file.fileno()), place.parent.stat())
            ):
                return None
            return file.read(most + 1)
    except OSError:
        return None


def _is_ours(status: os.stat_result) -> bool:
    """Return whether root or the caller alone can have written a file."""
    is_owned = status.st_uid in (0, os.geteuid())
    return is_owned and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _allow_readers(descriptor: int, files: tuple[str, ...]) -> None:
    """Let group and others read the copy if they can read each of the files."""
    found = [Path(file).stat() for file in files]
    groups = {status.st_gid for status in found}
    mode = 0o644 if len(groups) <= 1 else 0o604
    for status in found:
        mode &= stat.S_IMODE(status.st_mode)
    if len(groups) == 1 and os.geteuid() == 0:
        os.fchown(descriptor, -1, groups.pop())
    os.fchmod(descriptor, mode | 0o600)
