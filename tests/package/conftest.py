"""A Debian 12, booted, with our packages in /srv and everything they depend on in apt's cache."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.lab import Lab
from support.machine import Machine, debootstrap, fetch

BUILD: Final = Path(__file__).resolve().parent.parent.parent / "packaging" / "build.py"


def _build(kind: str, release: str, place: Path) -> None:
    """One package: `place`."""
    output = place.with_suffix(".d")
    command = [sys.executable, BUILD, kind, "--release", release, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [package] = output.iterdir()
    package.rename(place)
    output.rmdir()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("debian") / "root"
    debootstrap(root)
    _build("deb", "1", root / "srv" / "1.deb")
    _build("deb", "2", root / "srv" / "2.deb")
    _build("rpm", "1", root / "srv" / "1.rpm")
    fetch(root, "/srv/1.deb", "rpm")
    with Lab() as lab, Machine(lab, root) as made:
        yield made
    shutil.rmtree(root)
