"""Entry point of sentryfwd: arguments, and settings of the interpreter before anything is imported.

See docs/decisions.md: nothing-at-import.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from sentryfw import __version__
from sentryfw.daemon import imports
from sentryfw.errors import SentryError
from sentryfw.host import signals
from sentryfw.text import plain


def main() -> None:
    """Run the command sentryfwd."""
    signals.leave_to_kernel()  # until the loop answers them
    parser = argparse.ArgumentParser(
        prog="sentryfwd", description="The SentryFW daemon.",
        # Without a width it imports shutil, and three compressions with it: half a MiB.
        formatter_class=partial(argparse.HelpFormatter, width=80),
    )  # fmt: skip
    parser.add_argument("-c", "--config", type=Path, metavar="FILE")
    parser.add_argument("--version", action="version", version=f"sentryfwd {__version__}")
    arguments = parser.parse_args()
    named = os.environ.get("SENTRYFW_CONFIG")
    path = arguments.config or (Path(named) if named else None)
    path = path and path.absolute()
    imports.import_libraries()
    from sentryfw.daemon.serve import serve  # noqa: PLC0415 - it imports asyncio

    try:
        serve(path)
    except SentryError as error:
        sys.stderr.write(plain(f"sentryfwd: {error}\n", keep="\n"))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
