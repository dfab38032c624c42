"""Debian's portsentry 1.2, fetched when a test needs it: its licence (CPL 1.0) is not ours, so this
tree has none of its files."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = "portsentry"
DEFAULT: Final = 'TCP_MODE="tcp"\nUDP_MODE="udp"\n'
"""/etc/default/portsentry, as the package's postinst writes it at the first installation."""


def unpack(home: Path) -> Path:
    """Unpack the package below `home`; return that root directory. Skip the test without it."""
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"Debian's portsentry is not available here: no {program}")
    root = home / "root"
    for command in (["apt-get", "-q", "download", PACKAGE], ["sh", "-c", f"dpkg -x *.deb {root}"]):
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Debian's portsentry is not available here: {done.stderr.strip()[-200:]}")
    default = root / "etc/default/portsentry"
    default.parent.mkdir(parents=True, exist_ok=True)
    default.write_text(DEFAULT)
    return root
