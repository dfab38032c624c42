"""The queue rule of an installed table, by the statement and by the target."""

from collections.abc import Iterator

import pytest

from sentryfw.errors import KernelError
from sentryfw.netfilter import queue_rule
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    """A table with an empty chain judge."""
    _nft(namespace, "add table inet sentryfw; add chain inet sentryfw judge")
    made = namespace.call(Table)
    yield made
    made.close()


def _nft(namespace: Namespace, *words: str) -> str:
    done = namespace.run("nft", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_queue_rule_no_way_is_active(table: Table) -> None:
    assert queue_rule.active(table) is None


def test_the_appended_target_is_active(namespace: Namespace, table: Table) -> None:
    queue_rule.append_target(table, 77)
    assert queue_rule.active(table) == "xt-nfqueue"
    listed = _nft(namespace, "--debug=netlink", "list chain inet sentryfw judge")
    assert queue_rule.COMMENT in listed
    assert "[ target name NFQUEUE rev 3 ]" in listed


def test_the_target_replaces_the_drop_of_an_update(namespace: Namespace, table: Table) -> None:
    _nft(namespace, queue_rule.SHUT)
    assert queue_rule.active(table) is None
    queue_rule.open_with_target(table, 77)
    assert queue_rule.active(table) == "xt-nfqueue"
    assert "drop" not in _nft(namespace, "list chain inet sentryfw judge")


def test_the_drop_of_an_update_is_deleted_if_the_target_is_refused(
    namespace: Namespace, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nft(namespace, queue_rule.SHUT)
    unknown = nl.rule("sentryfw", queue_rule.CHAIN, "no such expression", b"", "")
    monkeypatch.setattr(nl, "queue_target_rule", lambda *_: unknown)
    with pytest.raises(KernelError):
        queue_rule.open_with_target(table, 77)
    assert list(table.rule_expressions(queue_rule.CHAIN)) == []
