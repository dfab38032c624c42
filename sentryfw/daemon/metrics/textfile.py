"""The file for node_exporter's textfile collector: complete at any moment, readable for all."""

import contextlib
import os
import stat
from pathlib import Path

from sentryfw.errors import SentryError
from sentryfw.host.private_files import open_no_link

MODE = 0o644


def write(path: Path, text: str) -> None:
    """Replace the file by a new version, in one step.

    Raise SentryError if other users could replace it too, or if it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        if path.parent.stat().st_mode & stat.S_IWOTH:
            raise SentryError(
                f"{path.parent}: other users may write there: chmod o-w {path.parent}"
            )
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(open_no_link(new, flags, MODE), "w") as file:
            os.fchmod(file.fileno(), MODE)  # independent of the umask
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise SentryError(
            f"{path}: {error.strerror}: the daemon's user must be able to write in {path.parent}"
        ) from error
