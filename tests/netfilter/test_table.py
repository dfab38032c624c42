"""Table: whether it is installed, its rules and its counters."""

import pytest

from sentryfw.errors import NotInstalled, SentryError
from sentryfw.netfilter.schema import COMMENT
from sentryfw.netfilter.table import Counter, Table
from sentryfw.netlink import nftables as nl
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


def _nft(namespace: Namespace, command: str) -> str:
    done = namespace.run("nft", command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_table_has_our_comment(table: Table) -> None:
    assert table.is_installed()
    assert table.comment() == COMMENT
    table.require()


def test_a_missing_table_is_not_installed(bare: Table) -> None:
    assert bare.comment() is None
    assert not bare.is_installed()
    with pytest.raises(NotInstalled, match="run `sentryfw install`"):
        bare.require()


def test_a_foreign_table_of_our_name_is_refused(namespace: Namespace, bare: Table) -> None:
    _nft(namespace, "add table inet sentryfw")
    assert bare.comment() == ""
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        bare.require()


# --- rules


def _chain(namespace: Namespace) -> str:
    return _nft(namespace, "list chain inet sentryfw c")


def test_rules_are_appended_replaced_and_deleted(namespace: Namespace, table: Table) -> None:
    _nft(namespace, "add chain inet sentryfw c")
    with pytest.raises(SentryError, match="chain c has no rule"):
        table.last_rule("c")
    for comment in ("first", "second"):
        table.append_rule(nl.rule("sentryfw", "c", "counter", b"", comment), "a counter")
    assert list(table.rule_expressions("c")) == ["counter", "counter"]
    table.append_rule(nl.rule("sentryfw", "c", "counter", b"", "third"), "a check", commit=False)
    handle = table.last_rule("c")
    table.replace_rule(nl.rule("sentryfw", "c", "counter", b"", "other"), handle, "a counter")
    listed = _chain(namespace)
    assert [word for word in ("first", "second", "third", "other") if word in listed] == [
        "first", "other",
    ]  # fmt: skip
    table.delete_rule("c", table.last_rule("c"))
    assert "other" not in _chain(namespace)
    assert list(table.rule_expressions("c")) == ["counter"]


# --- counters


def test_counters_are_read_by_name_and_all_at_once(namespace: Namespace, table: Table) -> None:
    _nft(namespace, "add counter inet sentryfw tried { packets 7 bytes 420 }")
    _nft(namespace, "add table inet other; add counter inet other foreign")
    assert table.counter("tried") == Counter(7, 420)
    assert table.counter("unknown") is None
    found = table.counters()
    assert found["tried"] == Counter(7, 420)
    assert "judged" in found
    assert "foreign" not in found


def test_without_a_table_no_counter_is_found(bare: Table) -> None:
    assert bare.counter("judged") is None
    assert bare.counters() == {}
