"""Python packages of the distribution, for what few configurations need: they are not in our
packages, whose private environment does not search the distribution's directories.

See docs/decisions.md: distribution-packages.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DIRECTORIES: Final = (
    "/usr/lib/python3/dist-packages",
    *(f"/usr/{lib}/python3.{sys.version_info.minor}/site-packages" for lib in ("lib", "lib64")),
)
"""The directories in Debian; in Fedora, Alpine, OpenWrt and others."""


@contextmanager
def distribution_packages() -> Iterator[None]:
    """Search these directories, too, and last, for what is imported within; for nothing else, so
    that no package of the distribution replaces one of the environment."""
    added = [directory for directory in DIRECTORIES if directory not in sys.path]
    sys.path += added
    try:
        yield
    finally:
        for directory in added:
            sys.path.remove(directory)
