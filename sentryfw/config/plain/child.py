"""The child's part of process.py: it checks a configuration, and ends."""

import pickle
import sys

from sentryfw import __version__, config
from sentryfw.errors import ConfigError


def main() -> None:
    """Read the tables of the files, check them, and write the answer."""
    answer: tuple[object, object]
    try:
        found = config.validated(pickle.load(sys.stdin.buffer)).config  # noqa: S301 - our parent's
        answer = found, found.model_dump(mode="json")
    except ConfigError as error:
        answer = None, (error.where, error.faults, error.files)
    pickle.dump((__version__, pickle.dumps(answer)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
