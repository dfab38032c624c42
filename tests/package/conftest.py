"""A booted Debian with our packages in /srv and all their dependencies in apt's cache."""

import shutil
from collections.abc import Iterator

import pytest

from support.lab import Lab
from support.machine import Machine, debootstrap, fetch
from support.packaged import FLEET, build


@pytest.fixture(scope="session")
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine of the suite that is the parameter. The rpms are in the Debian 12, which has a
    Python that they are for."""
    suite: str = request.param
    root = tmp_path_factory.mktemp(suite) / "root"
    debootstrap(root, suite)
    build("deb", "1", root / "srv" / "1.deb", suite=suite)
    build("deb", "2", root / "srv" / "2.deb", suite=suite)
    more: tuple[str, ...] = ()
    if suite == "bookworm":
        build("rpm", "1", root / "srv" / "1.rpm", page=root / "srv" / "page.rpm")
        more = ("rpm", "cockpit-bridge")
    fetch(root, "/srv/1.deb", *FLEET, *more)
    with Lab() as lab, Machine(lab, root) as made:
        yield made
    shutil.rmtree(root)
