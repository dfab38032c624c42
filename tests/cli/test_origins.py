"""Origins in the answers of the commands, and files with faults."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.origin.model import NOWHERE
from sentryfw.record.ledger import Ledger
from support import origins
from support.entries import BLOCK, REFUSAL
from support.fake_host import FakeHost
from support.origins import ITEM, SCANNER, WORDS


@pytest.fixture
def known(host: FakeHost) -> FakeHost:
    """A host that blocks a scanner whose origin is known, and observed it before."""
    host.configure(origins.settings(host.home))
    host.add_block(SCANNER)
    now = time.time()
    block = BLOCK._replace(address=SCANNER, blocked_at=now - 60, first_seen=now - 90)
    observed = REFUSAL._replace(
        address=SCANNER, blocked_at=now - 90, first_seen=now - 99, reason="observe", timeout_s=60.0
    )
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add([block, observed])
    return host


def answer(host: FakeHost, *words: str) -> Any:
    done = host.sentryfw(*words)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "words", [("list",), ("list", "--limit", "5"), ("list", "--would-block"), ("export",)]
)
def test_lists_have_it(known: FakeHost, words: tuple[str, ...]) -> None:
    [item] = answer(known, *words, "--json")
    assert item["origin"] == ITEM


def test_an_explanation_has_it(known: FakeHost) -> None:
    assert answer(known, "explain", SCANNER, "--json")["origin"] == ITEM
    _, shown = known.on_terminal("explain", SCANNER)
    assert f"Origin: {WORDS}." in shown


def test_a_table_has_it(known: FakeHost) -> None:
    head, row = known.sentryfw("list").stdout.splitlines()
    columns = dict(zip(head.split("\t"), row.split("\t"), strict=True))
    assert columns["origin"] == WORDS
    _, shown = known.on_terminal("list", columns=200)
    assert f"({WORDS})" in shown


def test_the_report_counts_countries_networks_and_labels(known: FakeHost) -> None:
    found = answer(known, "report", "--json")
    assert found["countries"] == {"DE": 1}
    assert found["networks"] == {"AS64500 Example Net": 1}
    assert found["labels"] == {"Research scanner": 1}
    assert found["origin_remark"] == ""
    assert [row["origin"] for row in found["top_sources"]] == [ITEM]
    text = known.sentryfw("report").stdout
    assert "networks\tAS64500 Example Net\t1" in text
    page = known.home / "report.html"
    known.sentryfw("report", "--html", page)
    assert "<h2>Networks</h2>" in page.read_text()


def test_watch_has_it(known: FakeHost) -> None:
    found = answer(known, "watch", "--once", "--json")
    assert [block["origin"] for block in found["blocks"]] == [ITEM]


def test_without_files_it_is_empty(host: FakeHost) -> None:
    host.add_block(SCANNER)
    [item] = answer(host, "list", "--json")
    assert item["origin"] == NOWHERE.item()
    assert answer(host, "report", "--json")["countries"] == {}


def test_a_fault_of_a_file_is_one_sentence_and_the_command_goes_on(known: FakeHost) -> None:
    (known.home / "both.mmdb").write_bytes(b"damaged")
    fault = f"{known.home / 'both.mmdb'}: cannot be read"
    for words in (("list", "--json"), ("explain", SCANNER, "--json"), ("export", "--json")):
        done = known.sentryfw(*words)
        [line] = done.stderr.splitlines()
        assert fault in line
        assert "Research scanner" in done.stdout
    assert fault in json.loads(known.sentryfw("report", "--json").stdout)["origin_remark"]
    view = json.loads(known.sentryfw("watch", "--once", "--json").stdout)
    assert fault in view["warnings"][0]


def test_doctor_names_the_files(known: FakeHost) -> None:
    done = known.sentryfw("doctor", "--json")
    rows = [row for row in json.loads(done.stdout) if row["check"] == "origins"]
    assert [row["state"] for row in rows] == ["ok"]
    assert "GeoLite2-Country, built on 20" in rows[0]["detail"]
    Path(known.home / "research.list").unlink()
    done = known.sentryfw("doctor", "--json")
    rows = [row for row in json.loads(done.stdout) if row["check"] == "origins"]
    assert [row["state"] for row in rows] == ["ok", "warn"]
    assert rows[1]["detail"] == f"{known.home / 'research.list'}: No such file or directory"
