"""Learnt elements outlast the table: kept in the ledger, restored with what is left of them."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.config.model import Config
from sentryfw.guard import learnt_sets
from sentryfw.guard.moment import Moment
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import learnt
from sentryfw.record.learnt import LearntElement
from sentryfw.record.ledger import Ledger
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

KEYS = {
    "partner4": "198.51.100.1", "partner6": "2001:db8:1::", "peer4": "198.51.100.2",
    "peer6": "2001:db8:2::",
}  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "state" / "ledger.db") as made:
        yield made


def _fill(namespace: Namespace, timeout: str = "1d", expires: str = "2h") -> None:
    for name, key in KEYS.items():
        words = f"{{ {key} timeout {timeout} expires {expires} }}"
        namespace.run("nft", f"add element inet sentryfw {name} {words}")


def _left(netlink: NfnetlinkSocket, name: str) -> list[float]:
    now = Moment.now()
    return [item.end - now.wall for item in learnt_sets._elements(netlink, name, now, [])]


def _lose_table(namespace: Namespace) -> None:
    namespace.run("nft", "flush ruleset")
    table = namespace.call(Table)
    namespace.call(lambda: install(table, Config(), []))
    table.close()


def test_a_new_table_gets_back_what_was_learnt_and_no_more_time(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger
) -> None:
    _fill(namespace)
    kept = learnt_sets.save(netlink, ledger, Moment.now())
    assert kept.keys() >= KEYS.keys()
    _lose_table(namespace)
    half_an_hour_later = Moment(time.monotonic(), time.time() + 1800)
    assert learnt_sets.restore(netlink, ledger, half_an_hour_later) == len(KEYS)
    for name in KEYS:
        assert _left(netlink, name) == [pytest.approx(7200 - 1800, abs=10)]


def test_what_the_kernel_has_is_not_renewed(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger
) -> None:
    _fill(namespace, expires="2h")
    learnt_sets.save(netlink, ledger, Moment.now())
    namespace.run("nft", "flush set inet sentryfw partner4")
    namespace.run(
        "nft", "add element inet sentryfw partner4 { 198.51.100.1 timeout 1d expires 1h }"
    )
    assert learnt_sets.restore(netlink, ledger, Moment.now()) == 0
    assert _left(netlink, "partner4") == [pytest.approx(3600, abs=10)]


def test_what_has_ended_during_the_pause_is_not_restored(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger
) -> None:
    _fill(namespace)
    learnt_sets.save(netlink, ledger, Moment.now())
    _lose_table(namespace)
    later = Moment(time.monotonic(), time.time() + 7300)
    assert learnt_sets.restore(netlink, ledger, later) == 0


def test_what_left_the_set_leaves_the_ledger(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger
) -> None:
    _fill(namespace)
    learnt_sets.save(netlink, ledger, Moment.now())
    namespace.run("nft", "delete element inet sentryfw partner4 { 198.51.100.1 }")
    learnt_sets.save(netlink, ledger, Moment.now())
    _lose_table(namespace)
    assert learnt_sets.restore(netlink, ledger, Moment.now()) == len(KEYS) - 1


def test_a_table_that_is_gone_leaves_the_ledger_as_it_is(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger
) -> None:
    _fill(namespace)
    learnt_sets.save(netlink, ledger, Moment.now())
    namespace.run("nft", "flush ruleset")
    assert learnt_sets.save(netlink, ledger, Moment.now()) == {}
    _lose_table(namespace)
    assert learnt_sets.restore(netlink, ledger, Moment.now()) == len(KEYS)


@pytest.mark.parametrize("timeout", ["1d", "2d"], ids=["of-the-set", "of-its-own"])
def test_the_timeout_of_an_element_is_kept(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger, timeout: str
) -> None:
    _fill(namespace, timeout, "1h")
    learnt_sets.save(netlink, ledger, Moment.now())
    [item] = learnt.active(ledger, "partner4", time.time())
    assert item.timeout == {"1d": 86400.0, "2d": 172800.0}[timeout]
    assert item.end - time.time() == pytest.approx(3600, abs=10)


@pytest.mark.parametrize("name", ["served4", "served6"])
def test_keys_of_several_fields_are_kept(
    namespace: Namespace, netlink: NfnetlinkSocket, ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(learnt_sets, "LEARNT_SETS", (name,))
    address = "198.51.100.1 . 198.51.100.2" if name == "served4" else "2001:db8:1:: . fd00::1"
    element = f"{{ {address} . tcp . 443 timeout 1d expires 1h }}"
    namespace.run("nft", f"add element inet sentryfw {name} {element}")
    learnt_sets.save(netlink, ledger, Moment.now())
    namespace.run("nft", f"flush set inet sentryfw {name}")
    assert learnt_sets.restore(netlink, ledger, Moment.now()) == 1
    assert "443" in namespace.run("nft", f"list set inet sentryfw {name}").stdout
    assert _left(netlink, name) == [pytest.approx(3600, abs=10)]


def test_rows_that_do_not_fit_the_set_are_left_out(
    netlink: NfnetlinkSocket, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    end = time.time() + 3600
    keys = [bytes(15) + b"\1", bytes((198, 51, 100, 9)), b"odd"]
    learnt.save(ledger, "partner4", [LearntElement(key, 86400.0, end) for key in keys[1:]])
    learnt.save(ledger, "peer4", [LearntElement(keys[0], 86400.0, end)])
    with caplog.at_level(logging.WARNING):
        assert learnt_sets.restore(netlink, ledger, Moment.now()) == 1
    assert "cannot restore all of set peer4" in caplog.text


def test_memory_keeps_a_bounded_part_for_a_repair(
    namespace: Namespace, netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(namespace)
    assert all(learnt_sets.read(netlink)[name] for name in KEYS)
    monkeypatch.setattr(learnt_sets, "MAX_KEPT_BYTES", 8)
    assert not any(learnt_sets.read(netlink)[name] for name in KEYS)


@pytest.mark.parametrize(
    ("address", "left"),
    [
        ("198.51.100.7", ["confine4 8", "confine6", "cut4 8", "partner4 7"]),
        ("2001:db8:1::/64", ["confine4 7", "confine4 8", "cut4 8", "partner4 7"]),
        ("198.51.100.0/24", ["confine4 7", "confine4 8", "confine6", "cut4 8", "partner4 7"]),
        (None, ["partner4 7"]),
    ],
    ids=["ipv4", "ipv6", "network", "all"],
)
def test_unblocking_forgets_a_saved_confinement(
    ledger: Ledger, address: str | None, left: list[str]
) -> None:
    end = time.time() + 3600
    seven, eight = bytes((198, 51, 100, 7)), bytes((198, 51, 100, 8))
    six = bytes.fromhex("20010db8000100000000000000000000")
    rows = {"confine4": [seven, eight], "cut4": [eight], "confine6": [six], "partner4": [seven]}
    for name, keys in rows.items():
        learnt.save(ledger, name, [LearntElement(key, 7200.0, end) for key in keys])
    learnt_sets.record_unblock(ledger, address, time.time())
    found = ledger.database.read("SELECT name, key FROM learnt")
    texts = [f"{name} {bytes(key)[3]}" if len(key) == 4 else str(name) for name, key in found]
    assert sorted(texts) == left
