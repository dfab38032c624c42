"""The file for node_exporter's textfile collector: whole at any moment, readable for all."""

import contextlib
import os
import stat
from pathlib import Path

from sentryfw.errors import SentryError

MODE = 0o644


def write(path: Path, text: str) -> None:
    """Put a new version in the old one's place. SentryError where others could do so too, or
    where it cannot be written."""
    new = path.with_name(f".{path.name}.new")
    try:
        if path.parent.stat().st_mode & stat.S_IWOTH:
            raise SentryError(f"{path.parent}: everybody may write there: chmod o-w {path.parent}")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, MODE), "w") as file:
            os.fchmod(file.fileno(), MODE)  # whatever the umask
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise SentryError(
            f"{path}: {error.strerror}: the daemon's user must be able to write in {path.parent}"
        ) from error
