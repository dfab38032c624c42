"""Block, unblock, list: what the verbs do to the kernel's sets."""

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from sentryfw.config import Config
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import KernelError, NotFound, NotInstalled, SentryError, UsageError
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter import table as module
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Blocked, Table
from sentryfw.netns import Namespace

pytestmark = [pytest.mark.netns]

SOURCES = ["198.18.0.2", "2001:2:0:1::/64", "fe80::1"]
"""The three shapes of a source."""


@pytest.fixture
def bare(namespace: Namespace) -> Iterator[Table]:
    """Where nothing is installed."""
    made = namespace.call(Table)
    yield made
    made.close()


@pytest.fixture
def table(namespace: Namespace, bare: Table) -> Table:
    namespace.call(lambda: install(bare, Config(), []))
    return bare


def _nft(namespace: Namespace, command: str) -> str:
    done = namespace.run("nft", command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _networks(namespace: Namespace, table: Table) -> list[Blocked]:
    return namespace.call(table.blocked_networks)


def _block_network(namespace: Namespace, table: Table, network: str, timeout: float = 600) -> None:
    namespace.call(lambda: table.block_network(ip_network(network), timeout))


# --- sources


@pytest.mark.parametrize("address", SOURCES)
def test_a_blocked_source_is_listed_as_it_was_named(table: Table, address: str) -> None:
    assert not table.is_blocked(parse_source(address))
    table.block([(parse_source(address), 600)])
    assert table.is_blocked(parse_source(address))
    [blocked] = table.blocked_sources()
    assert (blocked.address, blocked.timeout) == (address, 600.0)
    assert blocked.family == (6 if ":" in address else 4)
    assert 590 < blocked.expires <= 600
    assert (blocked.packets, blocked.bytes) == (0, 0)


@pytest.mark.parametrize("address", SOURCES)
def test_an_unblocked_source_is_gone_and_no_suspect(
    namespace: Namespace, table: Table, address: str
) -> None:
    table.block([(parse_source(address), 600)])
    prefix = "198.18.0.2" if "." in address else address.partition("/")[0]
    family = 4 if "." in address else 6
    suspect = "fe80::" if prefix == "fe80::1" else prefix
    _nft(namespace, f"add element inet sentryfw suspect{family} {{ {suspect} }}")
    table.unblock(parse_source(address))
    assert list(table.blocked_sources()) == []
    assert suspect not in _nft(namespace, f"list set inet sentryfw suspect{family}")


@pytest.mark.parametrize("address", SOURCES)
def test_what_is_not_blocked_cannot_be_unblocked(table: Table, address: str) -> None:
    with pytest.raises(NotFound, match=f"{address} is not blocked"):
        table.unblock(parse_source(address))


@pytest.mark.parametrize(("first", "second"), [(600, 60), (60, 600)], ids=["shorter", "longer"])
def test_blocking_again_sets_the_new_timeout(table: Table, first: int, second: int) -> None:
    source = parse_source("198.18.0.2")
    table.block([(source, first)])
    table.block([(source, second)])
    [blocked] = table.blocked_sources()
    assert blocked.timeout == second
    assert second - 10 < blocked.expires <= second


def test_many_sources_are_blocked_and_listed(table: Table) -> None:
    sources = [Source(bytes((198, 18, n >> 8, n & 255))) for n in range(1000)]
    sources += [Source(bytes((0x20, 1, 0, 2, 0, 0, n >> 8, n & 255))) for n in range(1000)]
    for start in range(0, len(sources), 50):
        table.block((source, 600) for source in sources[start : start + 50])
    assert {parse_source(b.address) for b in table.blocked_sources()} == set(sources)


@pytest.mark.parametrize("exact", [1000, 10], ids=["one by one", "the kernel's count"])
def test_blocks_are_counted_by_family(
    namespace: Namespace, table: Table, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT", exact)
    assert table.count_blocked() == {4: 0, 6: 0}
    table.block((Source(bytes((198, 18, 0, n))), 600) for n in range(30))
    table.block((Source(bytes((0x20, 1, 0, 2, 0, 0, 0, n))), 600) for n in range(20))
    _block_network(namespace, table, "203.0.113.0/24")
    assert table.count_blocked() == {4: 31, 6: 20}
    table.unblock(Source(bytes((198, 18, 0, 0))))
    assert table.count_blocked() == {4: 30, 6: 20}


def test_a_kernel_that_does_not_count_is_asked_for_the_elements(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nl, "NFTA_SET_COUNT", 0xFFF)
    monkeypatch.setattr(module, "EXACT", 10)
    table.block((Source(bytes((198, 18, 0, n))), 600) for n in range(30))
    assert table.count_blocked() == {4: 30, 6: 0}


def test_the_kernel_s_refusal_carries_its_errno(bare: Table) -> None:
    with pytest.raises(KernelError, match="block: No such file or directory") as raised:
        bare.block([(parse_source("198.18.0.2"), 600)])
    assert raised.value.code == errno.ENOENT


def test_a_transaction_after_a_refused_one_is_answered_for_itself(
    namespace: Namespace, bare: Table
) -> None:
    source = parse_source("198.18.0.2")
    for _ in range(3):
        with pytest.raises(KernelError):
            bare.block([(source, 600), (parse_source("fe80::1"), 600)])
    namespace.call(lambda: install(bare, Config(), []))
    bare.block([(source, 600)])
    assert bare.is_blocked(source)


# --- networks


@pytest.mark.parametrize(
    ("network", "family"),
    [
        ("198.18.64.0/20", 4), ("198.18.0.9/32", 4), ("198.18.0.8/31", 4), ("128.0.0.0/1", 4),
        ("2001:2::/48", 6), ("2001:2::9/128", 6), ("8000::/1", 6),
    ],
)  # fmt: skip
def test_a_blocked_network_is_listed_as_it_was_named(
    namespace: Namespace, table: Table, network: str, family: int
) -> None:
    _block_network(namespace, table, network)
    [blocked] = _networks(namespace, table)
    assert (blocked.address, blocked.family, blocked.timeout) == (network, family, 600.0)
    assert 590 < blocked.expires <= 600
    namespace.call(lambda: table.unblock_network(ip_network(network)))
    assert _networks(namespace, table) == []


def test_a_network_is_blocked_until_it_is_unblocked(namespace: Namespace, table: Table) -> None:
    _block_network(namespace, table, "198.18.64.0/20", 0)
    [blocked] = _networks(namespace, table)
    assert (blocked.timeout, blocked.expires) == (0.0, 0.0)


def test_neighbouring_networks_stay_two(namespace: Namespace, table: Table) -> None:
    _block_network(namespace, table, "198.18.0.0/25", 600)
    _block_network(namespace, table, "198.18.0.128/25", 60)
    assert {(b.address, b.timeout) for b in _networks(namespace, table)} == {
        ("198.18.0.0/25", 600.0),
        ("198.18.0.128/25", 60.0),
    }


def test_blocking_a_network_again_sets_the_new_timeout(namespace: Namespace, table: Table) -> None:
    for timeout in (600, 60):
        _block_network(namespace, table, "198.18.64.0/20", timeout)
    [blocked] = _networks(namespace, table)
    assert blocked.timeout == 60.0


@pytest.mark.parametrize("other", ["198.18.64.0/24", "198.18.0.0/16"], ids=["inner", "outer"])
def test_a_network_that_overlaps_a_blocked_one_is_refused(
    namespace: Namespace, table: Table, other: str
) -> None:
    _block_network(namespace, table, "198.18.64.0/20")
    with pytest.raises(UsageError, match=r"overlaps 198\.18\.64\.0/20, which is blocked"):
        _block_network(namespace, table, other)
    assert [b.address for b in _networks(namespace, table)] == ["198.18.64.0/20"]


def test_a_network_that_is_not_blocked_cannot_be_unblocked(
    namespace: Namespace, table: Table
) -> None:
    with pytest.raises(NotFound, match=r"198\.18\.64\.0/20 is not blocked"):
        namespace.call(lambda: table.unblock_network(ip_network("198.18.64.0/20")))


@pytest.mark.parametrize("read", [Table.blocks, Table.unblock_all], ids=["list", "unblock-all"])
def test_a_range_that_an_operator_blocked_through_nft_is_borne(
    namespace: Namespace, table: Table, read: Callable[[Table], object]
) -> None:
    """nft lists what is no prefix as a range."""
    _nft(namespace, "add element inet sentryfw block_net4 { 198.18.0.5-198.18.0.9 timeout 1h }")
    assert namespace.call(lambda: read(table))


# --- everything


def test_unblocking_all_empties_every_block_set(namespace: Namespace, table: Table) -> None:
    table.block([(parse_source(address), 600) for address in SOURCES])
    _block_network(namespace, table, "198.18.64.0/20")
    assert len(namespace.call(table.blocks)) == 4
    assert namespace.call(table.unblock_all) == 4
    assert namespace.call(table.blocks) == []


def test_without_a_table_it_says_install(bare: Table) -> None:
    assert not bare.is_installed()
    with pytest.raises(NotInstalled, match="run `sentryfw install`"):
        bare.require()


def test_a_foreign_table_is_not_taken_for_ours(namespace: Namespace, bare: Table) -> None:
    _nft(namespace, "add table inet sentryfw")
    assert bare.comment() == ""
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        bare.require()
