"""Print the table of a configuration as it runs, in nft's words, without installing it.

    python -m sentryfw.tools.table [CONFIG]

The table is installed into a private network namespace and listed there. Needs root.
"""

import sys
from pathlib import Path

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.host.protected import never_block
from sentryfw.netfilter.install import install
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.tools.drill.namespace import Namespace


def listing(config: Config) -> str:
    """Return the table of a configuration, with the never-block sources of this host."""
    protected = never_block(config)
    with Namespace() as namespace:
        table = namespace.call(Table)
        try:
            namespace.call(lambda: install(table, config, protected))
        finally:
            table.close()
        done = namespace.run("nft", "-s", "list", "table", "inet", TABLE)
    if done.returncode:
        raise SentryError(f"nft list table inet {TABLE}: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Print the table of the configuration file named in the arguments; return the exit code."""
    try:
        path = Path(arguments[0]) if arguments else None
        sys.stdout.write(listing(config.load(path)))
    except SentryError as error:
        sys.stderr.write(f"table: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
