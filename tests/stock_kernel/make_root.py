"""Make the root of Debian 13 that its kernel is emulated with: `make test-stock-kernel`.

    python tests/stock_kernel/make_root.py

It has the kernel, and the sources with an environment of that Debian's Python.
"""

import sys
from typing import Final

import suites

ROOT: Final = suites.ROOT / "build" / "roots" / "kernel" / "trixie"
INSTALL: Final = """\
export DEBIAN_FRONTEND=noninteractive INITRD=No
apt-get update -q >/dev/null
apt-get install -y -q --no-install-recommends linux-image-amd64 kmod >/dev/null
"""


def main() -> None:
    suites.made("trixie", ROOT.parent)
    suites.copy_sources(ROOT / suites.PLACE)
    if not any((ROOT / "boot").glob("vmlinuz-*")):
        suites.enter(ROOT, suites.PLACE, "sh", "-ec", INSTALL)
    suites.enter(ROOT, suites.PLACE, "make", "setup")
    # The emulated machine cannot write byte code, and would compile every module at every start.
    suites.enter(
        ROOT, suites.PLACE, ".venv/bin/python", "-m", "compileall", "-q", "sentryfw", "tests"
    )


if __name__ == "__main__":
    sys.exit(main())
