"""Differences between distributions: where their Python packages are, and the commands of their
service managers.

Few configurations need a Python package of the distribution: our packages have none of them, and
their private environment does not search the distribution's directories.

See docs/decisions.md: distribution-packages.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


SERVICE_MANAGERS: Final = (
    ("run/systemd/system", "systemctl {action} {service}"),
    ("sbin/openrc-run", "rc-service {service} {action}"),
    ("sbin/procd", "/etc/init.d/{service} {action}"),
)
"""Paths that show which service manager runs, and its command: systemd, OpenRC, OpenWrt's procd."""


def service_command(action: str, service: str = "sentryfw", root: Path = Path("/")) -> str:
    """Return the command of this machine for `start`, `restart` or `status` of a service; systemd's
    where no service manager is found."""
    commands = [command for path, command in SERVICE_MANAGERS if (root / path).exists()]
    command = commands[0] if commands else SERVICE_MANAGERS[0][1]
    return command.format(action=action, service=service)
