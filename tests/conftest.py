"""What every test directory shares: private namespaces, and when their tests cannot run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sentryfw.netns import Namespace
from support import debian

# A deadline for each example would test the machine's load, not the code.
settings.register_profile("sentryfw", deadline=None)
settings.load_profile("sentryfw")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    not_root = pytest.mark.skip(reason="needs root: network namespaces")
    no_nmap = pytest.mark.skip(reason="needs nmap")
    for item in items:
        if item.get_closest_marker("netns") and os.geteuid() != 0:
            item.add_marker(not_root)
        if item.get_closest_marker("nmap") and shutil.which("nmap") is None:
            item.add_marker(no_nmap)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace with nothing in it but lo."""
    with Namespace() as made:
        yield made


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's portsentry 1.2, unpacked."""
    return debian.unpack(tmp_path_factory.mktemp("portsentry"))
