"""A host whose table is a FakeKernel: the command line on it needs no root and no namespace."""

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest

from sentryfw import cli
from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import source_text
from sentryfw.host import privileges, protected
from sentryfw.netfilter import features
from sentryfw.netfilter.features import Feature
from sentryfw.netfilter.table import Table
from sentryfw.record.ledger import Ledger
from support.fake_table import FakeKernel, FakeTable
from support.host import GATEWAY, OWN, Host

T = TypeVar("T")


class FakeHost(Host):
    """One host with an address and a gateway, and a table in memory."""

    def __init__(self, settings: str = "") -> None:
        super().__init__(settings)
        self.kernel = FakeKernel()

    def inside(self, function: Callable[[], T]) -> T:
        with _faked(self.kernel):
            return function()

    def install(self) -> None:
        """Make the table and the ledger, as `sentryfw install` does."""
        self.kernel.install()
        Ledger(self.settings.paths.ledger).close()

    def ruleset(self) -> str:
        return "" if self.kernel.state is None else repr(self.kernel.state)

    def elements(self, name: str) -> dict[str, dict[str, Any]]:
        state = self.kernel.require(name)
        if name.startswith("block_net"):
            found = {str(n): e for n, e in state.networks.items() if str(n.version) == name[-1]}
        else:
            found = {
                source_text(source).removesuffix("/64"): element
                for source, element in state.sources.get(name, {}).items()
            }
        return {
            text: {"timeout": element.timeout, "expires": self.kernel.left(element)}
            for text, element in found.items()
        }

    def never_blocked(self) -> list[IPNetwork]:
        return FakeTable(self.kernel).sets.never_blocked()

    def add_block(self, *addresses: str) -> None:
        for address in addresses:
            self.kernel.add("block", address, 3600)


@contextlib.contextmanager
def _faked(kernel: FakeKernel) -> Iterator[None]:
    """Let the command line find this table, the host's addresses, and root's rights."""
    for module in pkgutil.walk_packages(cli.__path__, f"{cli.__name__}."):
        importlib.import_module(module.name)  # what is loaded later would keep the fake
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "sentryfw" and vars(module).get("Table") is Table:
                patch.setattr(module, "Table", lambda: FakeTable(kernel))
        patch.setattr(privileges, "require_root", lambda: None)
        patch.setattr(protected, "own_addresses", lambda: [ip_address(OWN)])
        patch.setattr(protected, "gateways", lambda: [ip_address(GATEWAY)])
        patch.setattr(protected, "resolvers", list)
        patch.setattr(features, "probe", _features)
        yield


def _features() -> list[Feature]:
    """A kernel without the queue statement, as FakeKernel.install() makes the queue rule."""
    return [
        Feature("queue statement", False, "CONFIG_NFT_QUEUE", ""),
        Feature("xt NFQUEUE target", True, "CONFIG_NETFILTER_XT_TARGET_NFQUEUE", ""),
    ]
