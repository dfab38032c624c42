"""A booted Debian 12 with our packages in /srv and all their dependencies in apt's cache."""

import shutil
from collections.abc import Iterator

import pytest

from support.lab import Lab
from support.machine import Machine, debootstrap, fetch
from support.packaged import build


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("debian") / "root"
    debootstrap(root)
    build("deb", "1", root / "srv" / "1.deb")
    build("deb", "2", root / "srv" / "2.deb")
    build("rpm", "1", root / "srv" / "1.rpm")
    fetch(root, "/srv/1.deb", "rpm")
    with Lab() as lab, Machine(lab, root) as made:
        yield made
    shutil.rmtree(root)
