"""Debian's portsentry 1.2, fetched when a test wants it: its licence (CPL 1.0) is not ours, so no
file of it stands in this tree."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = "portsentry"
DEFAULT: Final = 'TCP_MODE="tcp"\nUDP_MODE="udp"\n'
"""/etc/default/portsentry, as the package's postinst writes it at the first installation."""


def unpack(home: Path) -> Path:
    """The package, unpacked below `home`: a root directory. Skips where it cannot be had."""
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"Debian's portsentry cannot be had here: no {program}")
    root = home / "root"
    for command in (["apt-get", "-q", "download", PACKAGE], ["sh", "-c", f"dpkg -x *.deb {root}"]):
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Debian's portsentry cannot be had here: {done.stderr.strip()[-200:]}")
    default = root / "etc/default/portsentry"
    default.parent.mkdir(parents=True, exist_ok=True)
    default.write_text(DEFAULT)
    return root
