"""Fixtures of all test directories: hosts, namespaces, labs; and which tests cannot run."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from sentryfw.netfilter import features
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support import debian
from support.box import Box
from support.fake_host import FakeHost
from support.host import Host
from support.lab import Lab

# A deadline for each example would test the machine's load, not the code.
settings.register_profile("sentryfw", deadline=None)
settings.load_profile("sentryfw")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job; programs that tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

NAMESPACES: Final = frozenset({"namespace", "box", "lab", "pair", "shared"})
"""Fixtures that make network namespaces."""


@pytest.hookimpl(tryfirst=True)  # before the items of other tiers are deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    not_root = pytest.mark.skip(reason="needs root")
    no_nmap = pytest.mark.skip(reason="needs nmap")
    for item in items:
        if NAMESPACES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.netns)
        if os.geteuid() != 0 and (
            item.get_closest_marker("netns") or item.get_closest_marker("root")
        ):
            item.add_marker(not_root)
        if item.get_closest_marker("nmap") and shutil.which("nmap") is None:
            item.add_marker(no_nmap)


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """SIGHUP ends this process and what it starts, even in a test run under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace with lo alone."""
    with Namespace() as made:
        yield made


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    """A netlink socket to the namespace's nf_tables."""
    with namespace.call(NfnetlinkSocket) as made:
        yield made


@pytest.fixture
def has_queue_statement(namespace: Namespace) -> bool:
    """Return whether this kernel has the queue statement of nft."""
    probed = namespace.call(features.probe)
    return next(feature.present for feature in probed if feature.name == "queue statement")


@pytest.fixture
def box() -> Iterator[Box]:
    """One host with a network namespace and directories of its own."""
    with Box() as made:
        yield made


@pytest.fixture
def installed(box: Box) -> Box:
    """The box with the table in its kernel."""
    box.install()
    return box


@pytest.fixture
def bare_host() -> Iterator[FakeHost]:
    """A host in memory, on which nothing is installed."""
    with FakeHost() as made:
        yield made


@pytest.fixture
def host(bare_host: FakeHost) -> FakeHost:
    """A host in memory, with the table."""
    bare_host.install()
    return bare_host


@pytest.fixture(params=["fake", pytest.param("kernel", marks=pytest.mark.netns)])
def any_host(request: pytest.FixtureRequest) -> Host:
    """A host with the table: in memory, and in a kernel."""
    name = {"fake": "host", "kernel": "installed"}[request.param]
    made: Host = request.getfixturevalue(name)
    return made


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two hosts on a wire: a victim, and an attacker."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's portsentry 1.2, unpacked."""
    return debian.unpack(tmp_path_factory.mktemp("portsentry"))
