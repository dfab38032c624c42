"""list, block, unblock: on the kernel's sets, with or without ledger and daemon."""

import errno
import itertools
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli.commands import blocks as module
from sentryfw.control.client import ask
from sentryfw.errors import KernelError
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.record import ledger as ledger_module
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord
from support.box import Box
from support.fake_table import FakeBlockSets
from support.host import GATEWAY, OWN, Host
from support.waiting import wait_for

KEYS = [
    "address", "family", "scan", "kinds", "targets", "probes", "first_seen", "blocked_at",
    "timeout_s", "expires_in_s", "offence", "forgeable", "tool", "zone", "reason", "decision",
    "dropped_packets", "dropped_bytes", "host", "origin",
]  # fmt: skip
SCANNER = "203.0.113.7"
HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]\x9b31m\u202egpj.exe\nnext line\tnext field"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
NOT_FOR_A_TERMINAL = ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\nnext", "\tnext")


@pytest.fixture
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is asked for four reasons at once."""
    monkeypatch.setattr(ledger_module, "ADDRESS_BATCH", 4)


def items(box: Host) -> list[dict[str, Any]]:
    done = box.sentryfw("list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def addresses(box: Host) -> set[str]:
    return {item["address"] for item in items(box)}


def remember(box: Host, address: str = SCANNER, **fields: Any) -> DecisionRecord:
    """Return the record that the engine writes when it blocks the address."""
    now = time.time()
    entry = DecisionRecord(
        address=address, family=4, scan="portscan", kinds=["syn", "fin"], targets=3, probes=5,
        first_seen=now - 2, blocked_at=now, timeout_s=3600, offence=2, forgeable=True,
        tool="unknown", reason="3 targets within 300 s", sample=[f"{OWN} tcp/23"], blocked=True,
    )._replace(**fields)  # fmt: skip
    with Ledger(box.settings.paths.ledger) as ledger:
        ledger.add([entry])
    return entry


# --- list


def test_an_item_has_exactly_the_keys_of_the_interface(host: Host) -> None:
    host.sentryfw("block", SCANNER)
    host.sentryfw("block", "203.0.114.0/24")
    assert [list(item) for item in items(host)] == [KEYS, KEYS]


def test_nothing_blocked_is_an_empty_list(host: Host) -> None:
    assert items(host) == []
    assert host.sentryfw("list").stdout.count("\n") == 1


def test_an_item_has_its_reason_from_the_ledger(host: Host) -> None:
    host.sentryfw("block", SCANNER)
    entry = remember(host)
    [item] = items(host)
    same = ("scan", "kinds", "targets", "probes", "offence", "forgeable", "tool", "reason")
    assert {key: item[key] for key in same} == {key: getattr(entry, key) for key in same}
    assert item["first_seen"] < item["blocked_at"]


def test_a_block_that_the_ledger_does_not_know_is_listed(host: Host) -> None:
    host.add_block(SCANNER)
    [item] = items(host)
    assert (item["address"], item["timeout_s"]) == (SCANNER, 3600)
    assert (item["reason"], item["blocked_at"]) == ("not in the ledger", None)


@pytest.mark.usefixtures("four_at_once")
@pytest.mark.parametrize("count", [3, 4, 10])
def test_more_blocks_than_are_looked_up_at_once_are_all_listed(host: Host, count: int) -> None:
    found = [f"203.0.113.{number}" for number in range(count)]
    host.add_block(*found)
    host.sentryfw("block", "203.0.114.0/24")
    remember(host, found[0])
    done = host.sentryfw("list", "--json")
    listed = {item["address"]: item["scan"] for item in json.loads(done.stdout)}
    assert listed == {**dict.fromkeys([*found, "203.0.114.0/24"], ""), found[0]: "portscan"}


@pytest.mark.usefixtures("four_at_once")
def test_a_fault_while_many_are_listed_is_an_error(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeBlockSets.blocked_sources

    def four_of_them(sets: FakeBlockSets, *_: object) -> Iterator[Blocked]:
        yield from itertools.islice(whole(sets), 4)
        raise KernelError(errno.ETIMEDOUT, "set block4")

    monkeypatch.setattr(FakeBlockSets, "blocked_sources", four_of_them)
    host.add_block(*(f"203.0.113.{number}" for number in range(10)))
    done = host.sentryfw("list")
    assert (done.returncode, done.stdout) == (1, "")
    assert "set block4" in done.stderr


def test_the_newest_block_comes_first(host: Host) -> None:
    for address in ("203.0.113.9", "203.0.113.7", "203.0.113.8"):
        host.sentryfw("block", address)
    listed = [item["address"] for item in items(host)]
    assert listed == ["203.0.113.8", "203.0.113.7", "203.0.113.9"]


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_pipe_gets_whole_fields_between_tabs(host: Host, columns: str) -> None:
    longest = "2001:db8:1234:5678:9abc:def0:1234:5600/120"
    assert host.sentryfw("block", longest).returncode == 0
    done = host.sentryfw("list", env={"COLUMNS": columns})
    header, row = done.stdout.splitlines()
    fields = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert fields["address"] == longest
    assert fields["reason"] == "blocked by hand"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_a_table_that_fits(host: Host, columns: int) -> None:
    host.sentryfw("block", "2001:db8:1234:5678::1")
    remember(host, "2001:db8:1234:5678::/64", tool="nmap")
    code, shown = host.on_terminal("list", columns=columns)
    assert code == 0
    lines = [STYLE.sub("", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= columns
    [row] = [line for line in lines if "2001:db8:1234:5678::/64" in line]
    assert "portscan by nmap: syn, fin" in row
    assert re.search(r"why|left|dropped", lines[1])
    assert "\t" not in shown


def test_a_confined_partner_is_called_so_once() -> None:
    item = {
        "decision": "confine", "scan": "portscan", "tool": "nmap", "kinds": ["syn"], "targets": 3,
        "reason": "partner", "dropped_packets": 1, "timeout_s": 600.0, "expires_in_s": 60.0,
        "origin": "",
    }  # fmt: skip
    assert module._shortly(item)["why"].count("confined") == 1


def test_a_terminal_without_blocks_gets_no_empty_table(host: Host) -> None:
    assert host.on_terminal("list") == (0, "0 blocked\n")


def test_in_observe_mode_the_list_is_of_what_would_be_blocked(host: Host) -> None:
    host.configure('[detect]\nmode = "observe"')
    remember(host, reason="observe", blocked=False, tool="nmap")
    remember(host, "192.0.2.9", reason="partner", blocked=False)
    code, shown = host.on_terminal("list")
    lines = [STYLE.sub("", line) for line in shown.splitlines()]
    assert code == 0
    assert max(map(len, lines)) <= 80
    assert lines[0] == "0 blocked"
    assert lines[1].startswith('1 would be blocked, were it not for mode = "observe" (times in ')
    [row] = [line for line in lines if SCANNER in line]
    assert "portscan by nmap: syn, fin, 3 targets" in row
    assert "192.0.2.9" not in shown
    piped = host.sentryfw("list")
    assert len(piped.stdout.splitlines()) == 1
    assert '1 source would be blocked, were it not for mode = "observe"' in piped.stderr


@pytest.mark.parametrize("field", ["reason", "scan", "kinds"])
def test_hostile_text_in_the_ledger_reaches_no_terminal(host: Host, field: str) -> None:
    host.sentryfw("block", SCANNER)
    remember(host, **{field: [HOSTILE] if field == "kinds" else HOSTILE})
    code, shown = host.on_terminal("list", columns=300)
    assert code == 0
    assert [text for text in NOT_FOR_A_TERMINAL if text in shown] == []
    assert "[bold]" in shown


@pytest.mark.parametrize("field", ["reason", "scan", "kinds"])
def test_hostile_text_in_the_ledger_makes_no_line_or_field(host: Host, field: str) -> None:
    host.sentryfw("block", SCANNER)
    remember(host, **{field: [HOSTILE] if field == "kinds" else HOSTILE})
    lines = host.sentryfw("list").stdout.splitlines()
    assert [line.count("\t") for line in lines] == [lines[0].count("\t")] * 2
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert items(host)[0][field] in (HOSTILE, [HOSTILE])


# --- a ledger that cannot be read


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
def test_list_without_a_readable_ledger_lists_from_the_kernel(host: Host, spoil: Any) -> None:
    host.sentryfw("block", SCANNER)
    spoil(host.settings.paths.ledger)
    done = host.sentryfw("list", "--json")
    assert done.returncode == 0, done.stderr
    assert [item["address"] for item in json.loads(done.stdout)] == [SCANNER]
    assert "ledger" in done.stderr


@pytest.mark.parametrize("spoil", SPOILERS[:4])
def test_unblock_without_a_usable_ledger_frees_the_address(host: Host, spoil: Any) -> None:
    host.sentryfw("block", SCANNER)
    spoil(host.settings.paths.ledger)
    done = host.sentryfw("unblock", SCANNER)
    assert host.elements("block4") == {}
    assert str(host.settings.paths.ledger) in done.stderr


@pytest.mark.parametrize("spoil", SPOILERS[:4])
def test_block_without_a_usable_ledger_names_it(host: Host, spoil: Any) -> None:
    host.sentryfw("block", SCANNER)
    spoil(host.settings.paths.ledger)
    done = host.sentryfw("block", "203.0.113.8")
    assert str(host.settings.paths.ledger) in done.stderr


def test_block_while_another_process_holds_the_ledger_is_reported(host: Host) -> None:
    host.sentryfw("block", SCANNER)
    connection = sqlite3.connect(host.settings.paths.ledger, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    done = host.sentryfw("block", "203.0.113.8")
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
def test_block_puts_it_into_its_set(any_host: Host, typed: str, name: str, element: str) -> None:
    done = any_host.sentryfw("block", typed)
    assert done.returncode == 0, done.stderr
    sets = ("block4", "block6", "block_net4", "block_net6")
    assert {key: list(any_host.elements(key)) for key in sets if any_host.elements(key)} == {
        name: [element]
    }
    assert any_host.elements(name)[element]["timeout"] == 3600


def test_an_ipv6_address_is_reported_as_blocked_with_its_64(any_host: Host) -> None:
    done = any_host.sentryfw("block", "2001:db8:1:2:3::4")
    assert "2001:db8:1:2::/64" in done.stdout
    assert "2001:db8:1:2:3::4" in done.stdout


def test_a_link_local_address_is_not_reported_as_a_64(any_host: Host) -> None:
    assert any_host.sentryfw("block", "fe80::1:2").stdout == "blocked fe80::1:2\n"


@pytest.mark.parametrize(
    ("typed", "blocked"),
    [
        ("::ffff:203.0.113.7", SCANNER),
        ("::FFFF:CB00:7107", SCANNER),
        ("::ffff:203.0.113.7/128", SCANNER),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
    ],
)
def test_an_ipv4_mapped_address_is_the_ipv4_address(
    any_host: Host, typed: str, blocked: str
) -> None:
    done = any_host.sentryfw("block", typed)
    assert (done.returncode, done.stdout) == (0, f"blocked {blocked}\n"), done.stderr
    assert addresses(any_host) == {blocked}
    assert any_host.sentryfw("explain", typed).returncode == 0
    done = any_host.sentryfw("unblock", typed)
    assert (done.returncode, done.stdout) == (0, f"unblocked {blocked}\n"), done.stderr
    assert addresses(any_host) == set()


def test_an_ipv4_mapped_address_is_found_within_a_blocked_network(any_host: Host) -> None:
    any_host.sentryfw("block", "203.0.113.0/24")
    done = any_host.sentryfw("unblock", "::ffff:203.0.113.7")
    assert done.returncode == 7
    assert "203.0.113.0/24" in done.stderr


@pytest.mark.parametrize(
    ("typed", "seconds"), [("90s", 90), ("4h", 14400), ("1d", 86400), ("45", 45), ("1h30m", 5400),
     ("28h", 100_800), ("3650d", 315_360_000)],
)  # fmt: skip
def test_block_with_a_timeout(any_host: Host, typed: str, seconds: int) -> None:
    for address in (SCANNER, "203.0.114.0/24", "2001:db8::1"):
        assert any_host.sentryfw("block", address, "--timeout", typed).returncode == 0
    assert {item["timeout_s"] for item in items(any_host)} == {seconds}
    assert all(seconds - 30 < item["expires_in_s"] <= seconds for item in items(any_host))


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::1"])
def test_block_again_takes_the_new_timeout(any_host: Host, address: str) -> None:
    any_host.sentryfw("block", address, "--timeout", "90s")
    assert any_host.sentryfw("block", address, "--timeout", "2h").returncode == 0
    [item] = items(any_host)
    assert (item["timeout_s"], item["expires_in_s"] > 7000) == (7200, True)


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::1"])
def test_a_block_forever_stays_until_it_is_unblocked(any_host: Host, address: str) -> None:
    assert any_host.sentryfw("block", address, "--timeout", "forever").returncode == 0
    [item] = items(any_host)
    assert (item["timeout_s"], item["expires_in_s"], item["reason"]) == (0, 0, "blocked by hand")
    code, shown = any_host.on_terminal("list")
    assert (code, "forever" in shown) == (0, True)
    assert "blocked forever" in any_host.sentryfw("explain", address).stdout
    assert any_host.sentryfw("unblock", address).returncode == 0
    assert items(any_host) == []


def test_a_long_first_timeout_of_the_configuration_holds_for_networks(any_host: Host) -> None:
    any_host.configure('[block]\ntimeouts = ["60d"]')
    assert any_host.sentryfw("block", "203.0.114.0/24").returncode == 0
    assert items(any_host)[0]["timeout_s"] == 60 * 86400


@pytest.mark.parametrize("timeout", ["0", "never", "-5", "1y", "99999999999", ""])
def test_a_timeout_that_is_none_ends_in_2(any_host: Host, timeout: str) -> None:
    done = any_host.sentryfw("block", SCANNER, f"--timeout={timeout}")
    assert done.returncode == 2
    assert items(any_host) == []


@pytest.mark.parametrize(
    "address",
    [
        "nonsense", "", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "203.0.113.7/33", "01.2.3.4",
        "203.0.113.7; flush ruleset", "203.0.113.7\n}", "2001:db8::1::2", "2001:db8::/129",
        "0.0.0.0/0", "::/0", "0.0.0.0/32", "::", "127.0.0.1", "127.0.0.0/8", "::1", "224.0.0.1",
        "239.0.0.0/8", "ff02::1", "255.255.255.255",
    ],
)  # fmt: skip
def test_a_block_of_a_wrong_address_ends_in_2_and_changes_nothing(
    any_host: Host, address: str
) -> None:
    before = any_host.ruleset()
    done = any_host.sentryfw("block", address)
    assert done.returncode == 2, done.stdout
    assert done.stderr
    assert any_host.ruleset() == before


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
    any_host: Host, address: str, why: str
) -> None:
    any_host.configure('[never_block]\naddresses = ["192.0.2.0/24", "2001:db8:ffff::53"]')
    before = any_host.ruleset()
    done = any_host.sentryfw("block", address)
    assert done.returncode == 1, done.stdout
    assert why in done.stderr
    assert any_host.ruleset() == before


@pytest.mark.parametrize("network", ["203.0.114.128/25", "203.0.112.0/20", "203.0.114.1/31"])
def test_a_network_that_overlaps_one_ends_in_2_and_changes_nothing(
    any_host: Host, network: str
) -> None:
    any_host.sentryfw("block", "203.0.114.0/24")
    before = any_host.ruleset()
    done = any_host.sentryfw("block", network)
    assert done.returncode == 2
    assert "203.0.114.0/24" in done.stderr
    assert any_host.ruleset() == before


# --- unblock


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::/64", "2001:db8::/32"])
def test_unblock_frees_what_was_blocked_and_nothing_else(any_host: Host, address: str) -> None:
    any_host.sentryfw("block", "203.0.113.99")
    any_host.sentryfw("block", address)
    done = any_host.sentryfw("unblock", address)
    assert (done.returncode, done.stdout) == (0, f"unblocked {address}\n")
    assert addresses(any_host) == {"203.0.113.99"}


def test_unblock_of_any_address_of_the_64_frees_it(any_host: Host) -> None:
    any_host.sentryfw("block", "2001:db8:1:2::1")
    assert any_host.sentryfw("unblock", "2001:db8:1:2:ffff::9").returncode == 0
    assert items(any_host) == []


@pytest.mark.parametrize("address", [SCANNER, "203.0.114.0/24", "2001:db8::1", "2001:db8::/32"])
def test_unblock_of_what_is_not_blocked_ends_in_7(any_host: Host, address: str) -> None:
    any_host.sentryfw("block", "203.0.113.99")
    done = any_host.sentryfw("unblock", address)
    assert done.returncode == 7
    assert "not blocked" in done.stderr
    assert addresses(any_host) == {"203.0.113.99"}


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("203.0.114.0/24", "203.0.114.9"),
        ("2001:db8::/32", "2001:db8:1:2::3"),
        ("203.0.114.0/24", "203.0.114.0/25"),
    ],
)
def test_unblock_within_a_blocked_network_ends_in_7_and_names_it(
    any_host: Host, network: str, address: str
) -> None:
    any_host.sentryfw("block", network)
    done = any_host.sentryfw("unblock", address)
    assert done.returncode == 7
    assert network in done.stderr
    assert addresses(any_host) == {network}


def test_unblock_all_frees_everything_and_counts(any_host: Host) -> None:
    for address in (SCANNER, "2001:db8::1", "203.0.114.0/24", "2001:db8:ffff::/48"):
        any_host.sentryfw("block", address)
    done = any_host.sentryfw("unblock", "--all")
    assert (done.returncode, done.stdout) == (0, "unblocked 4\n")
    assert items(any_host) == []
    assert any_host.sentryfw("unblock", "--all").stdout == "unblocked 0\n"


@pytest.mark.parametrize("words", [("unblock", "nonsense"), ("unblock", "1.2.3.4/33")])
def test_unblock_of_a_wrong_address_ends_in_2(any_host: Host, words: tuple[str, ...]) -> None:
    assert any_host.sentryfw(*words).returncode == 2


def test_the_ledger_remembers_when_it_was_unblocked(any_host: Host) -> None:
    any_host.sentryfw("block", SCANNER)
    any_host.sentryfw("block", "203.0.113.8")
    any_host.sentryfw("unblock", SCANNER)
    connection = sqlite3.connect(any_host.settings.paths.ledger)
    query = "SELECT address, unblocked_at IS NOT NULL FROM blocks ORDER BY address"
    assert connection.execute(query).fetchall() == [(SCANNER, 1), ("203.0.113.8", 0)]
    connection.close()


# --- beside a daemon


@pytest.mark.netns
def test_block_list_and_unblock_work_beside_the_daemon(box: Box) -> None:
    box.start_daemon()
    assert box.sentryfw("block", SCANNER).returncode == 0
    assert addresses(box) == {SCANNER}
    assert box.sentryfw("unblock", SCANNER).returncode == 0
    assert addresses(box) == set()


@pytest.mark.netns
def test_blocks_outlast_the_daemon(box: Box) -> None:
    daemon = box.start_daemon()
    box.sentryfw("block", SCANNER)
    ask(box.settings.paths.control, {"do": "stop"})
    assert wait_for(lambda: daemon.poll() is not None, "the daemon ends")
    assert addresses(box) == {SCANNER}
    box.start_daemon()
    assert addresses(box) == {SCANNER}


# --- list, a part of it


def part(box: Host, *options: str) -> list[str]:
    done = box.sentryfw("list", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [item["address"] for item in json.loads(done.stdout)]


def test_the_newest_by_limit_time_kind_and_text(host: Host) -> None:
    names = [f"203.0.113.{number}" for number in range(1, 5)]
    host.add_block(*names)
    now = time.time()
    for age, name in zip((3, 2, 1, 0), names, strict=True):
        remember(host, name, blocked_at=now - 100 * age, kinds=["udp"] if age == 1 else ["syn"])
    assert part(host, "--limit", "2") == names[:-3:-1]
    assert part(host, "--since", "150s") == names[:-3:-1]
    assert part(host, "--kind", "udp") == [names[2]]
    assert part(host, "--search", ".113.1") == [names[0]]
    assert host.sentryfw("list", "--count").stdout == "4\n"
    assert json.loads(host.sentryfw("list", "--count", "--kind", "udp", "--json").stdout) == {
        "count": 1
    }


def test_a_part_has_the_keys_of_the_whole(host: Host) -> None:
    host.sentryfw("block", SCANNER)
    [whole] = items(host)
    [item] = json.loads(host.sentryfw("list", "--json", "--limit", "1").stdout)
    assert {**item, "expires_in_s": 0} == {**whole, "expires_in_s": 0}


@pytest.mark.parametrize(
    "options", [("--limit", "0"), ("--since", "x"), ("--would-block", "--count")]
)
def test_a_part_that_makes_no_sense_is_a_wrong_use(host: Host, options: tuple[str, ...]) -> None:
    assert host.sentryfw("list", *options).returncode == 2
