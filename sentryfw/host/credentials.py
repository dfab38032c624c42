"""Read files with passwords and tokens, readable by their owner alone."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import ReactionFailed
from sentryfw.host.private_files import open_no_link

MAX_CREDENTIALS_BYTES: Final = 4096


def read_secrets(path: Path) -> dict[str, Any]:
    """Return the keys of a credentials file, which is TOML.

    Raise ReactionFailed if others can read the file, or if it is not valid.
    """
    try:
        descriptor = open_no_link(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
                raise ReactionFailed(
                    f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}:"
                    " it must have mode 0600 and belong to root"
                )
            data = file.read(MAX_CREDENTIALS_BYTES)
    except OSError as error:
        raise ReactionFailed(f"{path}: {error.strerror}") from error
    try:
        return tomllib.loads(data.decode())
    except ValueError:  # the text of the error could quote the secret
        raise ReactionFailed(f"{path}: not valid TOML") from None
