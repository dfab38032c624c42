"""Make the root of Debian 13 that its kernel is emulated with: `make test-stock-kernel`.

    python tests/stock_kernel/make_root.py install|lay-out

`install` may fail for want of a network; a failure of `lay-out` is one of ours. The root has the
kernel, the sources with an environment of that Debian's Python, and SentryFW as Debian's source
package lays it out, with the distribution's packages: confined.py starts that by systemd.
"""

import sys
from typing import Final

import suites

ROOT: Final = suites.ROOT / "build" / "roots" / "kernel" / "trixie"
INSTALL: Final = """\
export DEBIAN_FRONTEND=noninteractive INITRD=No
apt-get update -q >/dev/null
apt-get install -y -q --no-install-recommends linux-image-amd64 kmod systemd-sysv apparmor procps \
  python3-netfilterqueue python3-pydantic python3-typer netbase >/dev/null
"""
LAY_OUT: Final = """\
rm -rf build/laid-out /usr/lib/python3/dist-packages/sentryfw
PYTHONPATH=. python3 packaging/lay_out.py build/laid-out
cp -a build/laid-out/. /
cp -a sentryfw /usr/lib/python3/dist-packages/
cp -a rulesets /usr/lib/python3/dist-packages/sentryfw/
systemd-sysusers sentryfw.conf
for directory in /var/lib/sentryfw /var/log/sentryfw; do
  install -d -m 0750 -o sentryfw -g sentryfw "$directory"
done
"""
"""The steps of debian/rules and of the package's postinst."""
MARK: Final = ROOT / "root" / "installed"


def install() -> None:
    """Make the root with its packages and the environment of the tests."""
    suites.made("trixie", ROOT.parent)
    suites.copy_sources(ROOT / suites.PLACE)
    if not MARK.exists() or MARK.read_text() != INSTALL:
        suites.enter(ROOT, suites.PLACE, "sh", "-ec", INSTALL)
        MARK.write_text(INSTALL)
    suites.enter(ROOT, suites.PLACE, "make", "setup")


def lay_out() -> None:
    """Lay SentryFW out as the package does, and compile it."""
    suites.enter(ROOT, suites.PLACE, "sh", "-ec", LAY_OUT)
    # The emulated machine cannot write byte code, and would compile every module at every start.
    suites.enter(
        ROOT, suites.PLACE, ".venv/bin/python", "-m", "compileall", "-q", "sentryfw", "tests",
        "/usr/lib/python3/dist-packages/sentryfw",
    )  # fmt: skip


if __name__ == "__main__":
    {"install": install, "lay-out": lay_out}[sys.argv[1]]()
