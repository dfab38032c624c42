"""import: lists of others become blocks with an end, a name and bounds."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentryfw.record.active_blocks import proven_blocks
from sentryfw.record.ledger import Ledger
from support.fake_host import FakeHost
from support.host import OWN

Write = Callable[[str], str]
ONE, TWO, NET, SIX = "203.0.113.7", "203.0.113.8", "198.51.100.0/24", "2001:db8:1:2::3"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a writer of list files."""

    def write(text: str) -> str:
        path = tmp_path / "list.txt"
        path.write_text(text)
        return str(path)

    return write


def listed(host: FakeHost) -> dict[str, dict[str, Any]]:
    done = host.sentryfw("list", "--json")
    return {item["address"]: item for item in json.loads(done.stdout)}


def take(host: FakeHost, file: str, *more: str, name: str = "drop", code: int = 0) -> str:
    done = host.sentryfw("import", file, "--name", name, *(more or ("--for", "1h")))
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_list_is_blocked_until_its_end(host: FakeHost, write: Write) -> None:
    said = take(host, write(f"{ONE}\n{NET}\n{SIX}\n"), "--for", "2h")
    assert said == "blocked 2 sources and 1 network of the list drop for 2h at most\n"
    found = listed(host)
    assert set(found) == {ONE, NET, "2001:db8:1:2::/64"}
    assert {item["reason"] for item in found.values()} == {"list drop"}
    assert all(7100 < item["expires_in_s"] <= 7200 for item in found.values())
    [row] = json.loads(host.sentryfw("import", "--json").stdout)
    assert (row["name"], row["hosts"], row["networks"]) == ("drop", 2, 1)
    with Ledger(host.settings.paths.ledger) as ledger:
        assert proven_blocks(ledger, time.time()) == set()  # no BGP, no decision at CrowdSec


def test_another_import_replaces_the_list_and_no_other(host: FakeHost, write: Write) -> None:
    take(host, write(f"{ONE}\n{NET}\n"))
    take(host, write(f"{TWO}\n203.0.114.0/24\n"), name="other")
    host.sentryfw("block", "203.0.113.99")
    said = take(host, write("203.0.113.50\n198.51.100.0/25\n"), "--for", "3h")
    assert "unblocked 2 that are not in it any more" in said
    assert set(listed(host)) == {
        "203.0.113.50", "198.51.100.0/25", TWO, "203.0.114.0/24", "203.0.113.99",
    }  # fmt: skip


def test_the_same_list_again_starts_its_time_over(host: FakeHost, write: Write) -> None:
    take(host, write(f"{ONE}\n{NET}\n"), "--for", "1h")
    said = take(host, write(f"{ONE}\n{NET}\n"), "--for", "5h")
    assert "unblocked" not in said
    assert all(item["expires_in_s"] > 17000 for item in listed(host).values())


def test_a_list_is_removed_as_a_whole(host: FakeHost, write: Write) -> None:
    take(host, write(f"{ONE}\n{NET}\n"))
    host.sentryfw("block", TWO)
    done = host.sentryfw("import", "--remove", "drop")
    assert done.stdout == "unblocked 2 of the list drop\n"
    assert set(listed(host)) == {TWO}
    assert json.loads(host.sentryfw("import", "--json").stdout) == []
    done = host.sentryfw("import", "--remove", "drop")
    assert done.returncode == 7
    assert "no block is of a list named drop" in done.stderr


def test_a_block_by_hand_is_not_the_list_s(host: FakeHost, write: Write) -> None:
    host.sentryfw("block", ONE, "--timeout", "5m", "--comment", "ticket")
    host.sentryfw("block", "198.51.100.0/25")
    said = take(host, write(f"{ONE}\n{NET}\n{TWO}\n"))
    assert "left out: 1 (blocked already)" in said
    assert "left out: 1 (overlap a network that is blocked)" in said
    host.sentryfw("import", "--remove", "drop")
    assert set(listed(host)) == {ONE, "198.51.100.0/25"}
    assert listed(host)[ONE]["reason"] == "blocked by hand: ticket"


def test_never_block_sources_and_own_addresses_win(host: FakeHost, write: Write) -> None:
    host.sentryfw("allow", "add", TWO)
    own = f"{OWN.rpartition('.')[0]}.0/24"
    said = take(host, write(f"{TWO}\n203.0.113.0/29\n203.0.113.8/29\n{OWN}\n{own}\n"))
    assert "never blocked, or around sources that are" in said
    assert set(listed(host)) == {"203.0.113.0/29"}


def test_entries_within_others_are_left_out(host: FakeHost, write: Write) -> None:
    said = take(host, write(f"{NET}\n198.51.100.7\n198.51.100.0/25\n{ONE}\n{ONE}\n"))
    assert "left out: 3 (within another entry)" in said
    assert set(listed(host)) == {NET, ONE}


def test_a_dry_run_changes_nothing(host: FakeHost, write: Write) -> None:
    take(host, write(f"{ONE}\n"))
    before = host.ruleset()
    said = take(host, write(f"{TWO}\n{NET}\n"), "--for", "1h", "--dry-run")
    assert said.startswith("would block 1 source and 1 network of the list drop")
    assert "would unblock 1" in said
    assert host.ruleset() == before
    words = ("--name", "drop", "--for", "1h", "--dry-run", "--json")
    found = json.loads(host.sentryfw("import", write(TWO), *words).stdout)
    assert (found["hosts"], found["removed"], found["dry_run"]) == (1, 1, True)


def test_a_bad_line_is_named_and_nothing_is_imported(host: FakeHost, write: Write) -> None:
    file = write(f"{ONE}\n{TWO} {NET}\nexample.org\n")
    said = take(host, file, code=1)
    assert f"{file}: line 2: '{TWO} {NET}' is not one address or network (and 1 more)" in said
    assert "nothing was imported" in said
    assert listed(host) == {}
    said = take(host, file, "--for", "1h", "--skip-bad")
    assert f"{file}: line 3: 'example.org' is neither" in said
    assert "left out: 2 (cannot be read)" in said
    assert set(listed(host)) == {ONE}


def test_a_decision_ends_at_its_own_time(host: FakeHost, write: Write) -> None:
    decisions = [
        {"type": "ban", "scope": "Ip", "value": ONE, "duration": "10m0s"},
        {"type": "ban", "scope": "Range", "value": NET, "duration": "99h0m0s"},
    ]
    take(host, write(json.dumps(decisions)), "--for", "1h", "--format", "crowdsec")
    found = listed(host)
    assert 500 < found[ONE]["expires_in_s"] <= 600
    assert 3500 < found[NET]["expires_in_s"] <= 3600


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("FILE", "--name", "a"), "a list needs an end"),
        (("FILE", "--name", "a", "--for", "1h", "--until", "1h"), "a list needs an end"),
        (("FILE", "--for", "1h"), "--name: write"),
        (("FILE", "--for", "1h", "--name", "A b"), "--name: write"),
        (("FILE", "--for", "soon", "--name", "a"), "--for: 'soon'"),
        (("FILE", "--until", "2020-01-01", "--name", "a"), "is over"),
        (("FILE", "--for", "1h", "--name", "a", "--format", "csv"), "'csv' is none of plain"),
        (("FILE", "--remove", "a"), "takes no file"),
    ],
)
def test_wrong_options(host: FakeHost, write: Write, words: tuple[str, ...], fault: str) -> None:
    file = write(ONE)
    done = host.sentryfw("import", *(file if word == "FILE" else word for word in words))
    assert done.returncode == 2
    assert fault in done.stderr


def test_a_missing_file(host: FakeHost) -> None:
    assert "/nonexistent: No such file" in take(host, "/nonexistent", code=1)
