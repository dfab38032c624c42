"""Files that load rulesets at boot, and have our table in them: for `doctor`.

`nft list ruleset` prints our table, too. Loaded at boot it is out of date, and nft(8) cannot print
the xt NFQUEUE target so that it can read it: 1.0.6 leaves the queue rule out, later ones print
a line that it refuses, with the whole file.

See docs/coexistence.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentryfw.netfilter.schema import TABLE

PLACES: Final = (
    "etc/nftables.conf", "etc/nftables.nft", "etc/nftables.d/*.nft", "etc/nftables/*.nft",
    "etc/sysconfig/nftables.conf", "etc/nftables/rules/*.nft", "var/lib/nftables/rules-save",
)  # fmt: skip
"""Files of Debian, Alpine, Fedora, SUSE, Gentoo."""
MAX_FILE_BYTES: Final = 64 << 20
_TABLE: Final = re.compile(
    rb"^[ \t]*(?:add[ \t]+)?table[ \t]+inet[ \t]+%b\b" % TABLE.encode(), re.MULTILINE
)


def find(root: Path = Path("/")) -> Iterator[Path]:
    """Yield the files that have the table in them."""
    for pattern in PLACES:
        for path in sorted(root.glob(pattern)):
            if _TABLE.search(_read(path)):
                yield path


def warning(path: Path) -> str:
    """Return what is wrong with such a file, and what to do."""
    return (
        f"{path} has table inet {TABLE} in it, as `nft list ruleset` prints it: at boot nft may"
        " refuse the whole file, your own rules as well. Delete that table from the file; save"
        " your own tables only (docs/coexistence.md)"
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:  # a directory, or not for us
        return b""
