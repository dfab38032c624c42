"""The bounds of all lists together, and their summary."""

from collections.abc import Iterable
from ipaddress import ip_network

import pytest

from sentryfw.cli.commands.lists import replace as module
from sentryfw.cli.commands.lists.replace import lists, replace_list, summaries
from sentryfw.config.model import Config
from sentryfw.errors import UsageError
from sentryfw.record.active_blocks import ListedBlock
from sentryfw.tools.lists.entries import ListEntry
from support.fake_host import FakeHost
from support.fake_table import FakeTable


def _replace(host: FakeHost, name: str, texts: Iterable[str], most: int = 65536) -> None:
    block = host.settings.block.model_copy(update={"max_elements": most})
    config: Config = host.settings.model_copy(update={"block": block})
    entries = [ListEntry("line 1", ip_network(text)) for text in texts]
    host.inside(lambda: replace_list(config, FakeTable(host.kernel), name, entries, 60.0))


def test_sources_of_all_lists_are_bounded(host: FakeHost) -> None:
    _replace(host, "one", ["203.0.113.1"], 8)
    with pytest.raises(UsageError, match="3 sources, and may have 2 "):
        _replace(host, "two", ["203.0.113.2", "203.0.113.3"], 8)
    assert [block.address for block in lists(host.settings)] == ["203.0.113.1"]
    _replace(host, "one", ["203.0.113.2", "203.0.113.3"], 8)


def test_networks_of_all_lists_are_bounded(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NETWORKS", 2)
    _replace(host, "one", ["203.0.113.0/25"])
    with pytest.raises(UsageError, match="3 networks, and may have 2;"):
        _replace(host, "two", ["198.51.100.0/25", "198.51.101.0/25"])
    _replace(host, "one", ["198.51.100.0/25", "198.51.101.0/25"])


def test_a_summary_of_each_list() -> None:
    blocks = [
        ListedBlock("b", "203.0.113.1", False, 5.0),
        ListedBlock("a", "203.0.113.0/25", True, 9.0),
        ListedBlock("b", "203.0.113.2", False, 7.0),
    ]
    assert summaries(blocks) == [("a", 0, 1, 9.0), ("b", 2, 0, 7.0)]
