"""The last good configuration: a copy that root's `install`, `confirm` or `reload` wrote.

Commands use it while the files have a fault. Root acts by it, so the daemon's user has no part in
it: only root writes it, and one that another user could have written is ignored. It is one TOML
file in a directory of its own, where no conf.d is added to it.

See docs/decisions.md: last-good.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from sentryfw import config
from sentryfw.config.files import MAX_CONFIG_BYTES, Sources
from sentryfw.config.model import Config
from sentryfw.config.toml_text import to_text
from sentryfw.errors import ConfigError, SentryError
from sentryfw.host.private_files import open_no_link

DIRECTORY: Final = "last-good"
_HEAD: Final = """\
# The last configuration without a fault that was in use, merged from its files. `sentryfw install`
# and `sentryfw reload` write it; commands use it while the files have a fault.
"""


def place_of(path: Path | None) -> Path:
    """Return the path of the copy of a configuration; None: of the default one."""
    path = path or config.DEFAULT_PATH
    return path.parent / DIRECTORY / path.name


def save(path: Path | None, sources: Sources) -> None:
    """Write the copy, readable by those who can read the files. Without files and without their
    directory there is nothing to keep. Raise SentryError."""
    place = place_of(path)
    if not sources.files and not place.parent.parent.exists():
        return
    new = place.with_name(f".{place.name}.new")
    try:
        place.parent.mkdir(mode=0o755, exist_ok=True)
        new.unlink(missing_ok=True)
        descriptor = open_no_link(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_HEAD + to_text(sources.table))
            _allow_readers(descriptor, sources.files)
        new.replace(place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SentryError(f"{place}: {reason}: no copy of the configuration is kept") from error


def load(path: Path | None) -> Config | None:
    """Return the last good configuration; None if there is none that can be trusted."""
    place = place_of(path)
    data = _read(place)
    if data is None:
        return None
    try:
        return config.parse(data, str(place))
    except ConfigError:  # of a version with other keys
        return None


def usable(path: Path | None) -> Config:
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
    with contextlib.suppress(OSError):
        place.unlink()
        removed.append(place)
        place.parent.rmdir()
        removed.append(place.parent)
    return removed


def _read(place: Path) -> bytes | None:
    try:
        with os.fdopen(open_no_link(place, os.O_RDONLY), "rb") as file:
            if not all(
                _is_ours(status) for status in (os.fstat(file.fileno()), place.parent.stat())
            ):
                return None
            return file.read(MAX_CONFIG_BYTES + 1)
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
