"""list, block, unblock: on the kernel's sets, whatever became of ledger and daemon."""

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.control import ask
from sentryfw.record.entry import Entry
from sentryfw.record.ledger import Ledger
from support.box import GATEWAY, OWN, Box
from support.waiting import wait_for

pytestmark = pytest.mark.netns

KEYS = [
    "address", "family", "scan", "kinds", "targets", "probes", "first_seen", "blocked_at",
    "timeout_s", "expires_in_s", "offence", "forgeable", "tool", "reason", "dropped_packets",
    "dropped_bytes", "host",
]  # fmt: skip
SCANNER = "203.0.113.7"
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]\x9b31m\u202egpj.exe\nnext line\tnext field"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
NOT_FOR_A_TERMINAL = ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\nnext", "\tnext")


FEW_AT_ONCE = "from sentryfw.record import reasons; reasons.MOST = 4\n"
FAULT_AFTER_FOUR = """
import errno, itertools
from sentryfw.errors import KernelError
from sentryfw.netfilter.table import Table
whole = Table.blocked_sources
def blocked_sources(table):
    yield from itertools.islice(whole(table), 4)
    raise KernelError(errno.ETIMEDOUT, "set block4")
Table.blocked_sources = blocked_sources
"""


def items(box: Box) -> list[dict[str, Any]]:
    done = box.sentryfw("list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def addresses(box: Box) -> set[str]:
    return {item["address"] for item in items(box)}


def remember(box: Box, address: str = SCANNER, **fields: Any) -> Entry:
    """What the engine would have written when it blocked the address."""
    now = time.time()
    entry = Entry(
        address=address, family=4, scan="portscan", kinds=["syn", "fin"], targets=3, probes=5,
        first_seen=now - 2, blocked_at=now, timeout_s=3600, offence=2, forgeable=True,
        tool="unknown", reason="3 targets within 300 s", sample=[f"{OWN} tcp/23"], blocked=True,
    )._replace(**fields)  # fmt: skip
    with Ledger(box.settings.paths.ledger) as ledger:
        ledger.add([entry])
    return entry


# --- list


def test_an_item_has_exactly_the_keys_of_the_interface(installed: Box) -> None:
    installed.sentryfw("block", SCANNER)
    installed.sentryfw("block", "203.0.114.0/24")
    assert [list(item) for item in items(installed)] == [KEYS, KEYS]


def test_nothing_blocked_is_an_empty_list(installed: Box) -> None:
    assert items(installed) == []
    assert installed.sentryfw("list").stdout.count("\n") == 1


def test_an_item_says_why_out_of_the_ledger(installed: Box) -> None:
    installed.sentryfw("block", SCANNER)
    entry = remember(installed)
    [item] = items(installed)
    same = ("scan", "kinds", "targets", "probes", "offence", "forgeable", "tool", "reason")
    assert {key: item[key] for key in same} == {key: getattr(entry, key) for key in same}
    assert item["first_seen"] < item["blocked_at"]


def test_a_block_that_the_ledger_does_not_know_is_listed(installed: Box) -> None:
    element = f"add element inet sentryfw block4 {{ {SCANNER} timeout 1h }}"
    installed.nft(element)
    [item] = items(installed)
    assert (item["address"], item["timeout_s"]) == (SCANNER, 3600)
    assert (item["reason"], item["blocked_at"]) == ("not in the ledger", None)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_more_blocks_than_are_looked_up_at_once_are_all_listed(installed: Box, count: int) -> None:
    found = [f"203.0.113.{number}" for number in range(count)]
    installed.nft(
        f"add element inet sentryfw block4 {{ {' timeout 1h, '.join(found)} timeout 1h }}"
    )
    installed.sentryfw("block", "203.0.114.0/24")
    remember(installed, found[0])
    done = installed.sentryfw("list", "--json", prelude=FEW_AT_ONCE)
    listed = {item["address"]: item["scan"] for item in json.loads(done.stdout)}
    assert listed == {**dict.fromkeys([*found, "203.0.114.0/24"], ""), found[0]: "portscan"}


def test_a_fault_while_many_are_listed_is_an_error(installed: Box) -> None:
    found = (f"203.0.113.{number} timeout 1h" for number in range(10))
    installed.nft(f"add element inet sentryfw block4 {{ {', '.join(found)} }}")
    done = installed.sentryfw("list", prelude=FEW_AT_ONCE + FAULT_AFTER_FOUR)
    assert (done.returncode, done.stdout) == (1, "")
    assert "set block4" in done.stderr


def test_the_newest_block_comes_first(installed: Box) -> None:
    for address in ("203.0.113.9", "203.0.113.7", "203.0.113.8"):
        installed.sentryfw("block", address)
    listed = [item["address"] for item in items(installed)]
    assert listed == ["203.0.113.8", "203.0.113.7", "203.0.113.9"]


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_pipe_gets_whole_fields_between_tabs(installed: Box, columns: str) -> None:
    longest = "2001:db8:1234:5678:9abc:def0:1234:5600/120"
    assert installed.sentryfw("block", longest).returncode == 0
    done = installed.sentryfw("list", env={"COLUMNS": columns})
    header, row = done.stdout.splitlines()
    fields = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert fields["address"] == longest
    assert fields["reason"] == "blocked by hand"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_a_table_that_fits(installed: Box, columns: int) -> None:
    installed.sentryfw("block", "2001:db8:1234:5678::1")
    remember(installed, "2001:db8:1234:5678::/64")
    code, shown = installed.on_terminal("list", columns=columns)
    assert code == 0
    lines = [STYLE.sub("", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= columns
    [row] = [line for line in lines if "2001:db8:1234:5678::/64" in line]
    assert "portsc" in row
    assert "\t" not in shown


@pytest.mark.parametrize("field", ["reason", "scan", "kinds"])
def test_hostile_text_in_the_ledger_reaches_no_terminal(installed: Box, field: str) -> None:
    installed.sentryfw("block", SCANNER)
    remember(installed, **{field: [HOSTILE] if field == "kinds" else HOSTILE})
    code, shown = installed.on_terminal("list", columns=300)
    assert code == 0
    assert [text for text in NOT_FOR_A_TERMINAL if text in shown] == []
    assert "[bold]" in shown


@pytest.mark.parametrize("field", ["reason", "scan", "kinds"])
def test_hostile_text_in_the_ledger_makes_no_line_or_field(installed: Box, field: str) -> None:
    installed.sentryfw("block", SCANNER)
    remember(installed, **{field: [HOSTILE] if field == "kinds" else HOSTILE})
    lines = installed.sentryfw("list").stdout.splitlines()
    assert [line.count("\t") for line in lines] == [lines[0].count("\t")] * 2
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert items(installed)[0][field] in (HOSTILE, [HOSTILE])


# --- a ledger that is no help


def spoil_file(path: Path) -> None:
    path.write_text("this is no database " * 500)


def spoil_pages(path: Path) -> None:
    """The header stays, so it opens; what it points at is damaged."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


def spoil_schema(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def spoil_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE blocks")
    connection.close()


def spoil_rows(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE blocks SET kinds = 'no JSON'")
    connection.close()


SPOILERS = [
    pytest.param(spoil_file, id="no database"),
    pytest.param(spoil_pages, id="damaged pages"),
    pytest.param(spoil_schema, id="newer schema"),
    pytest.param(spoil_tables, id="a table missing"),
    pytest.param(spoil_rows, id="a row that is no JSON"),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_list_without_a_readable_ledger_lists_from_the_kernel(installed: Box, spoil: Any) -> None:
    installed.sentryfw("block", SCANNER)
    spoil(installed.settings.paths.ledger)
    done = installed.sentryfw("list", "--json")
    assert done.returncode == 0, done.stderr
    assert [item["address"] for item in json.loads(done.stdout)] == [SCANNER]
    assert "ledger" in done.stderr


@pytest.mark.parametrize("spoil", SPOILERS[:4])
def test_unblock_without_a_usable_ledger_frees_the_address(installed: Box, spoil: Any) -> None:
    installed.sentryfw("block", SCANNER)
    spoil(installed.settings.paths.ledger)
    done = installed.sentryfw("unblock", SCANNER)
    assert installed.elements("block4") == {}
    assert str(installed.settings.paths.ledger) in done.stderr


@pytest.mark.parametrize("spoil", SPOILERS[:4])
def test_block_without_a_usable_ledger_names_it(installed: Box, spoil: Any) -> None:
    installed.sentryfw("block", SCANNER)
    spoil(installed.settings.paths.ledger)
    done = installed.sentryfw("block", "203.0.113.8")
    assert str(installed.settings.paths.ledger) in done.stderr


def test_block_while_another_process_holds_the_ledger_says_so(installed: Box) -> None:
    installed.sentryfw("block", SCANNER)
    connection = sqlite3.connect(installed.settings.paths.ledger, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    done = installed.sentryfw("block", "203.0.113.8")
    connection.close()
    assert done.returncode == 1
    assert "locked" in done.stderr


# --- block


@pytest.mark.parametrize(
    ("typed", "name", "element"),
    [
        pytest.param(SCANNER, "block4", SCANNER, id="ipv4"),
        pytest.param("203.0.113.7/32", "block4", SCANNER, id="ipv4 /32"),
        pytest.param("2001:db8:1:2:3::4", "block6", "2001:db8:1:2::", id="ipv6 is its /64"),
        pytest.param("2001:db8:1:2::/64", "block6", "2001:db8:1:2::", id="ipv6 /64"),
        pytest.param("fe80::1:2", "block6", "fe80::1:2", id="link-local is itself"),
        pytest.param("203.0.113.77/24", "block_net4", "203.0.113.0/24", id="ipv4 network"),
        pytest.param("2001:db8::/32", "block_net6", "2001:db8::/32", id="ipv6 network"),
        pytest.param("2001:db8::8/125", "block_net6", "2001:db8::8/125", id="part of a /64"),
    ],
)
def test_block_puts_it_into_its_set(installed: Box, typed: str, name: str, element: str) -> None:
    done = installed.sentryfw("block", typed)
    assert done.returncode == 0, done.stderr
    sets = ("block4", "block6", "block_net4", "block_net6")
    assert {key: list(installed.elements(key)) for key in sets if installed.elements(key)} == {
        name: [element]
    }
    assert installed.elements(name)[element]["timeout"] == 3600


def test_an_ipv6_address_is_said_to_be_blocked_with_its_64(installed: Box) -> None:
    done = installed.sentryfw("block", "2001:db8:1:2:3::4")
    assert "2001:db8:1:2::/64" in done.stdout
    assert "2001:db8:1:2:3::4" in done.stdout


def test_a_link_local_address_is_not_said_to_be_a_64(installed: Box) -> None:
    assert installed.sentryfw("block", "fe80::1:2").stdout == "blocked fe80::1:2\n"


def test_an_ipv4_mapped_address_is_the_ipv4_address(installed: Box) -> None:
    done = installed.sentryfw("block", "::ffff:203.0.113.7")
    assert done.returncode == 0, done.stderr
    assert addresses(installed) == {SCANNER}


@pytest.mark.parametrize(
    ("typed", "seconds"), [("90s", 90), ("4h", 14400), ("1d", 86400), ("45", 45), ("1h30m", 5400)]
)
def test_block_for_as_long_as_told(installed: Box, typed: str, seconds: int) -> None:
    for address in (SCANNER, "203.0.114.0/24", "2001:db8::1"):
        assert installed.sentryfw("block", address, "--timeout", typed).returncode == 0
    assert {item["timeout_s"] for item in items(installed)} == {seconds}
    assert all(seconds - 30 < item["expires_in_s"] <= seconds for item in items(installed))


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::1"])
def test_block_again_takes_the_new_timeout(installed: Box, address: str) -> None:
    installed.sentryfw("block", address, "--timeout", "90s")
    assert installed.sentryfw("block", address, "--timeout", "2h").returncode == 0
    [item] = items(installed)
    assert (item["timeout_s"], item["expires_in_s"] > 7000) == (7200, True)


@pytest.mark.parametrize("timeout", ["0", "never", "-5", "1y", "99999999999", ""])
def test_a_timeout_that_is_none_ends_in_2(installed: Box, timeout: str) -> None:
    done = installed.sentryfw("block", SCANNER, f"--timeout={timeout}")
    assert done.returncode == 2
    assert items(installed) == []


@pytest.mark.parametrize(
    "address",
    [
        "nonsense", "", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "203.0.113.7/33", "01.2.3.4",
        "203.0.113.7; flush ruleset", "203.0.113.7\n}", "2001:db8::1::2", "2001:db8::/129",
        "0.0.0.0/0", "::/0", "0.0.0.0/32", "::", "127.0.0.1", "127.0.0.0/8", "::1", "224.0.0.1",
        "239.0.0.0/8", "ff02::1", "255.255.255.255",
    ],
)  # fmt: skip
def test_what_is_no_host_ends_in_2_and_changes_nothing(installed: Box, address: str) -> None:
    before = installed.ruleset()
    done = installed.sentryfw("block", address)
    assert done.returncode == 2, done.stdout
    assert done.stderr
    assert installed.ruleset() == before


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param(OWN, "own address", id="own address"),
        pytest.param(f"{OWN}/24", "own address", id="network of an own address"),
        pytest.param("196.0.0.0/6", "own address", id="a 64th of the Internet"),
        pytest.param(GATEWAY, "gateway", id="gateway"),
        pytest.param("192.0.2.55", "never_block.addresses", id="allowlisted network"),
        pytest.param("192.0.2.0/30", "never_block.addresses", id="part of it"),
        pytest.param("192.0.0.0/16", "never_block.addresses", id="more than it"),
        pytest.param("2001:db8:ffff::1", "never_block.addresses", id="ipv6, by the /64"),
    ],
)
def test_what_is_never_blocked_ends_in_1_and_changes_nothing(
    box: Box, address: str, why: str
) -> None:
    box.configure('[never_block]\naddresses = ["192.0.2.0/24", "2001:db8:ffff::53"]')
    box.sentryfw("install", "--no-service")
    before = box.ruleset()
    done = box.sentryfw("block", address)
    assert done.returncode == 1, done.stdout
    assert why in done.stderr
    assert box.ruleset() == before


@pytest.mark.parametrize("network", ["203.0.114.128/25", "203.0.112.0/20", "203.0.114.1/31"])
def test_a_network_that_overlaps_one_ends_in_2_and_changes_nothing(
    installed: Box, network: str
) -> None:
    installed.sentryfw("block", "203.0.114.0/24")
    before = installed.ruleset()
    done = installed.sentryfw("block", network)
    assert done.returncode == 2
    assert "203.0.114.0/24" in done.stderr
    assert installed.ruleset() == before


# --- unblock


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::/64", "2001:db8::/32"])
def test_unblock_frees_what_was_blocked_and_nothing_else(installed: Box, address: str) -> None:
    installed.sentryfw("block", "203.0.113.99")
    installed.sentryfw("block", address)
    done = installed.sentryfw("unblock", address)
    assert (done.returncode, done.stdout) == (0, f"unblocked {address}\n")
    assert addresses(installed) == {"203.0.113.99"}


def test_unblock_of_any_address_of_the_64_frees_it(installed: Box) -> None:
    installed.sentryfw("block", "2001:db8:1:2::1")
    assert installed.sentryfw("unblock", "2001:db8:1:2:ffff::9").returncode == 0
    assert items(installed) == []


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::1", "2001:db8::/32"])
def test_unblock_of_what_is_not_blocked_ends_in_7(installed: Box, address: str) -> None:
    installed.sentryfw("block", "203.0.113.99")
    done = installed.sentryfw("unblock", address)
    assert done.returncode == 7
    assert "not blocked" in done.stderr
    assert addresses(installed) == {"203.0.113.99"}


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("203.0.114.0/24", "203.0.114.9"),
        ("2001:db8::/32", "2001:db8:1:2::3"),
        ("203.0.114.0/24", "203.0.114.0/25"),
    ],
)
def test_unblock_within_a_blocked_network_ends_in_7_and_names_it(
    installed: Box, network: str, address: str
) -> None:
    installed.sentryfw("block", network)
    done = installed.sentryfw("unblock", address)
    assert done.returncode == 7
    assert network in done.stderr
    assert addresses(installed) == {network}


def test_unblock_all_frees_everything_and_counts(installed: Box) -> None:
    for address in (SCANNER, "2001:db8::1", "203.0.114.0/24", "2001:db8:ffff::/48"):
        installed.sentryfw("block", address)
    done = installed.sentryfw("unblock", "--all")
    assert (done.returncode, done.stdout) == (0, "unblocked 4\n")
    assert items(installed) == []
    assert installed.sentryfw("unblock", "--all").stdout == "unblocked 0\n"


@pytest.mark.parametrize("words", [("unblock", "nonsense"), ("unblock", "1.2.3.4/33")])
def test_unblock_of_what_is_no_address_ends_in_2(installed: Box, words: tuple[str, ...]) -> None:
    assert installed.sentryfw(*words).returncode == 2


def test_the_ledger_remembers_when_it_was_unblocked(installed: Box) -> None:
    installed.sentryfw("block", SCANNER)
    installed.sentryfw("block", "203.0.113.8")
    installed.sentryfw("unblock", SCANNER)
    connection = sqlite3.connect(installed.settings.paths.ledger)
    query = "SELECT address, unblocked_at IS NOT NULL FROM blocks ORDER BY address"
    assert connection.execute(query).fetchall() == [(SCANNER, 1), ("203.0.113.8", 0)]
    connection.close()


# --- beside a daemon


def test_block_list_and_unblock_work_beside_the_daemon(box: Box) -> None:
    box.start_daemon()
    assert box.sentryfw("block", SCANNER).returncode == 0
    assert addresses(box) == {SCANNER}
    assert box.sentryfw("unblock", SCANNER).returncode == 0
    assert addresses(box) == set()


def test_blocks_outlast_the_daemon(box: Box) -> None:
    daemon = box.start_daemon()
    box.sentryfw("block", SCANNER)
    ask(box.settings.paths.control, {"do": "stop"})
    assert wait_for(lambda: daemon.poll() is not None, "the daemon ends")
    assert addresses(box) == {SCANNER}
    box.start_daemon()
    assert addresses(box) == {SCANNER}
