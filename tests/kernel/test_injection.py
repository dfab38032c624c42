"""Hostile text in the ledger or in a packet: no terminal obeys it, no line is forged."""

import contextlib
import json
import re
import sqlite3
import time
from typing import Final

import pytest

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, ProbeRecord
from support.fake_host import FakeHost
from support.host import OWN

SCANNER: Final = "203.0.113.7"
HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J[bold red]\x9b31m\u202egpj.exe\x7f\nnext line\tnext field"
STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
KEYS: Final = {"address", "network", "target"}
"""Columns that rows are found by, or that are read back as an address."""


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return every text column of the ledger that is not a key."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [
        (table, row[1])
        for (table,) in tables
        if not table.startswith("sqlite_")
        for row in connection.execute(f"PRAGMA table_info({table})")
        if row[2] == "TEXT" and row[1] not in KEYS
    ]


@pytest.fixture
def poisoned(host: FakeHost) -> FakeHost:
    """A box in whose ledger every text is hostile."""
    assert host.sentryfw("block", SCANNER).returncode == 0
    now = time.time()
    refused = DecisionRecord(
        address=SCANNER, family=4, scan="portscan", kinds=["syn"], targets=3, probes=5,
        first_seen=now, blocked_at=now, timeout_s=60, offence=1, forgeable=True, tool="nmap",
        reason="observe", sample=[f"{OWN} tcp/23"], blocked=False,
    )  # fmt: skip
    path = host.settings.paths.ledger
    with Ledger(path) as ledger:
        ledger.add(
            [refused, refused._replace(blocked=True)],
            [ProbeRecord(SCANNER, now, "syn", False, f"{OWN} tcp/24")],
        )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        columns = _columns(connection)
        assert ("blocks", "reason") in columns
        for table, column in columns:
            lists = column in {"kinds", "sample"}
            value = json.dumps([HOSTILE]) if lists else HOSTILE
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
    return host


commands = pytest.mark.parametrize(
    "words", [("list",), ("status",), ("explain", SCANNER)], ids=" ".join
)


@commands
def test_a_terminal_is_sent_colours_at_most(poisoned: FakeHost, words: tuple[str, ...]) -> None:
    _, shown = poisoned.on_terminal(*words, columns=300)
    lines = STYLE.sub("", shown).replace("\r\n", "\n").split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.startswith("next")] == []


@commands
def test_a_pipe_is_sent_no_line_and_no_field_more(
    poisoned: FakeHost, words: tuple[str, ...]
) -> None:
    done = poisoned.sentryfw(*words)
    for line in (done.stdout + done.stderr).split("\n"):
        assert line.replace("\t", "").isprintable()
        assert not line.startswith("next")
        assert "\tnext field" not in line


@commands
def test_json_is_printable_ascii(poisoned: FakeHost, words: tuple[str, ...]) -> None:
    done = poisoned.sentryfw(*words, "--json")
    assert json.loads(done.stdout)
    assert done.stdout.isascii()
    assert done.stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize("words", [("block", HOSTILE), ("-c", f"/{HOSTILE}", "list")], ids=[0, 1])
def test_what_is_wrong_is_repeated_without_harm(host: FakeHost, words: tuple[str, ...]) -> None:
    done = host.run(*words)
    assert done.returncode in (2, 78)
    assert all(line.isprintable() for line in done.stderr.split("\n"))
