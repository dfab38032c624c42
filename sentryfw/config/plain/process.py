"""Check a configuration in a process of its own, for those that hold one without pydantic.

The child reads the tables of the files from stdin and writes the sections, and their values as
JSON, or the faults, to stdout. Both are pickled: parent and child are of one version, or the
answer does not count: a package may have been installed since the parent's start.
"""

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from sentryfw import __version__
from sentryfw.errors import ConfigError, SentryError

if TYPE_CHECKING:
    from sentryfw.config.files import Sources
    from sentryfw.config.model import Config

COMMAND: Final = [sys.executable, "-I", "-m", "sentryfw.config.plain.child"]
PLUGINS: Final = "PYDANTIC_DISABLE_PLUGINS"
TIMEOUT_S: Final = 60.0
"""The child takes a third of a second on an idle core."""
MAX_ERROR_CHARACTERS: Final = 500


def validated(sources: "Sources") -> "Config":
    """Return the configuration of files that were read. Raise ConfigError with all faults, and
    SentryError if the child fails."""
    environment = {"PATH": os.defpath, PLUGINS: os.environ.get(PLUGINS, "__all__")}
    try:
        done = subprocess.run(
            COMMAND, input=pickle.dumps(sources), capture_output=True, check=False, cwd="/",
            env=environment, timeout=TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SentryError(f"cannot check the configuration: {error}") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()[-MAX_ERROR_CHARACTERS:]
        raise SentryError(f"cannot check the configuration: {reason or done.returncode}")
    version, answer = pickle.loads(done.stdout)  # noqa: S301 - our own child wrote it
    if version != __version__:
        raise SentryError(
            f"cannot check the configuration: this is version {__version__}, and {version} is"
            " installed: restart the daemon"
        )
    found, rest = pickle.loads(answer)  # noqa: S301
    if found is None:
        raise ConfigError(*rest)
    checked: Config = found.keep_json(rest)
    return checked
