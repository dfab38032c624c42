"""report: as text, as JSON, as one page that nothing of an attacker's gets out of."""

import json
import re
import time
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli.commands.report import shades
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, Named, ProbeTrace
from sentryfw.tools.report.page import POLICY
from support.entries import BLOCK, REFUSAL
from support.fake_host import FakeHost

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='a'>&lt;\x1b[2J\u202e"


def remember(bare_host: FakeHost, **fields: Any) -> DecisionRecord:
    """A block of a minute ago, as the daemon would have written it."""
    now = time.time() - 60
    trace = tuple(ProbeTrace(now - n, "syn", False, f"198.18.0.1 tcp/{22 + n}") for n in range(3))
    entry = BLOCK._replace(blocked_at=now, first_seen=now - 5400, trace=trace, **fields)
    with Ledger(bare_host.settings.paths.ledger) as ledger:
        ledger.add([entry])
    return entry


class Page(HTMLParser):
    """Read a page as a browser does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_text_has_sources_ports_times_and_the_slowest_scan(host: FakeHost) -> None:
    entry = remember(host, tool="nmap")
    done = host.sentryfw("report")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "blocks\t1" in lines
    assert f"slowest_address\t{entry.address}" in lines
    assert "slowest_seconds\t5400" in lines
    assert "dropped_packets_since_install\t0" in lines
    assert "part_seconds\t10" in lines
    assert "tools\tnmap\t1" in lines
    assert any(line.startswith(f"{entry.address}\t1\t5\t") for line in lines)
    [ssh] = [line for line in lines if line.startswith("tcp/22\t")]
    assert re.fullmatch(r"1\t\[ {20,23}@ {4,7}\]", ssh.partition("\t")[2])


def test_on_a_terminal_it_is_sentences_and_tables_of_80_columns(host: FakeHost) -> None:
    remember(host, tool="nmap")
    remember(host, address="2001:db8:1234:5678::/64", family=6)
    seen = REFUSAL._replace(address="2001:db8:9999:5678::/64", reason="observe",
                            blocked_at=time.time(), tool="masscan")  # fmt: skip
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add([seen])
    code, shown = host.on_terminal("report")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("SentryFW report (times in ")
    texts = "\n".join(lines)
    assert "blocked   2 blocks of 2 sources; 0 ended early, by hand" in texts
    assert 'observed  1 source would have been blocked (mode = "observe")' in texts
    assert re.search(r"slowest .*: portscan \(syn, udp\), 1h30m to its block", texts)
    [row] = [line for line in lines if line.startswith("2001:db8:1234:5678::/64")]
    assert row.rstrip().endswith("portscan")
    [row] = [line for line in lines if line.startswith("2001:db8:9999:5678::/64")]
    assert row.rstrip().endswith("portscan by masscan") or "masscan" in texts
    assert re.search(r"Probed ports, from .* on; a column is 10s", texts)


def test_a_past_that_the_ledger_does_not_have_is_not_drawn(host: FakeHost) -> None:
    remember(host)
    found = json.loads(host.sentryfw("report", "--json", "--since", "30d").stdout)
    assert found["part_seconds"] == 10
    assert found["drawn_since"] > found["since"]
    short = json.loads(host.sentryfw("report", "--json", "--since", "2m").stdout)
    assert short["drawn_since"] == short["since"]


def test_a_report_of_nothing_is_sentences(host: FakeHost) -> None:
    code, shown = host.on_terminal("report")
    assert code == 0
    assert "No source was blocked" in shown
    assert "blocked  0 blocks of 0 sources" in shown


def test_what_was_only_observed_is_in_the_report(host: FakeHost) -> None:
    assert "would_block" not in host.sentryfw("report").stdout
    seen = REFUSAL._replace(reason="observe", blocked_at=time.time(), tool="nmap")
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add([seen])
    lines = host.sentryfw("report").stdout.splitlines()
    [head] = [line for line in lines if line.startswith("address\twould_block\t")]
    row = lines[lines.index(head) + 1].split("\t")
    assert row[:3] == [seen.address, "1", str(seen.probes)]
    assert row[-3:] == [seen.scan, "nmap", "-"]
    [source] = json.loads(host.sentryfw("report", "--json").stdout)["would_block"]
    assert source["address"] == seen.address


def test_json_holds_all_of_it(host: FakeHost) -> None:
    remember(host)
    host.sentryfw("block", BLOCK.address)
    found = json.loads(host.sentryfw("report", "--json", "--since", "1h").stdout)
    assert (found["blocks"], found["sources"]) == (2, 1)
    assert found["dropped_since_install"] == {"packets": 0, "bytes": 0}
    assert found["top_sources"][0]["dropped_packets"] == 0
    assert found["scans"] == {"by hand": 1, "portscan": 1}
    assert [port["port"] for port in found["ports"]] == ["tcp/22", "tcp/23", "tcp/24"]


def test_what_was_before_is_left_out(host: FakeHost) -> None:
    remember(host)
    found = json.loads(host.sentryfw("report", "--json", "--since", "30s").stdout)
    assert (found["blocks"], found["ports"]) == (0, [])
    assert found["ledger_begins"] is not None


def test_the_page_stands_alone_and_is_for_its_owner(host: FakeHost) -> None:
    remember(host)
    path = host.home / "report.html"
    done = host.sentryfw("report", "--html", path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{path}: 1 block of 1 source" in done.stderr
    assert path.stat().st_mode & 0o777 == 0o640
    page = Page(path.read_text())
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in page.attributes}
    assert ("content", POLICY) in page.attributes
    assert page.tags.count("svg") == 2
    assert BLOCK.address in page.texts
    assert "tcp/22" in page.texts
    assert ("class", "n") in page.attributes


def test_the_charts_say_when_and_how_much(host: FakeHost) -> None:
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add([BLOCK._replace(blocked_at=time.time() - 7200)])  # so the ledger is older
    entry = remember(host)
    path = host.home / "report.html"
    host.sentryfw("report", "--since", "28m", "--html", path)
    texts = Page(path.read_text()).texts
    assert "a bar is 1m; the maximum is 1" in texts
    columns = [t[:-3].partition(" to ") for t in texts if " to " in t and t.endswith(": 1")]
    block = datetime.fromtimestamp(entry.blocked_at, UTC).strftime("%Y-%m-%d %H:%M")
    assert any(begin <= block <= end for begin, _, end in columns)
    [period] = [text for text in texts if text.endswith(" UTC") and " to " in text]
    begin, _, end = period.partition(" to ")
    assert (texts.count(begin), texts.count(end)) == (2, 2), "at both ends of both charts"


def test_nothing_of_an_attackers_gets_out_of_its_text(host: FakeHost) -> None:
    entry = remember(
        host, tool=HOSTILE, scan=HOSTILE, address=HOSTILE, kinds=[HOSTILE],
    )  # fmt: skip
    trace = (ProbeTrace(time.time() - 30, "syn", False, f"198.18.0.1 {HOSTILE}"),)
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add([entry._replace(blocked_at=time.time() - 20, trace=trace)])
        ledger.add_reactions([], [Named(HOSTILE, HOSTILE, time.time())])
    path = host.home / "report.html"
    assert host.sentryfw("report", "--html", path).returncode == 0
    text = path.read_text()
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert not {"onerror", "src"} & {name for name, _ in page.attributes}
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in "".join(page.texts)  # as text
    plain = host.sentryfw("report").stdout
    assert "\x1b" not in plain
    assert "\u202e" not in plain


def test_a_link_is_not_written_through(host: FakeHost) -> None:
    victim, path = host.home / "victim", host.home / "report.html"
    victim.write_text("mine")
    path.symlink_to(victim)
    remember(host)
    assert host.sentryfw("report", "--html", path).returncode == 1
    assert victim.read_text() == "mine"


def test_without_a_table_what_was_dropped_is_not_known(bare_host: FakeHost) -> None:
    remember(bare_host)
    done = bare_host.sentryfw("report")
    assert done.returncode == 0
    assert "the number of dropped packets is not known: SentryFW is not installed" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--since", "soon"), 2, "--since: 'soon' is not a duration"),
        ((), 1, "the ledger does not exist"),
    ],
    ids=["no duration", "no ledger"],
)
def test_an_impossible_report_is_refused(
    bare_host: FakeHost, words: tuple[str, ...], code: int, said: str
) -> None:
    done = bare_host.sentryfw("report", *words)
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize(
    ("counts", "shown"),
    [([], ""), ([0, 0], "  "), ([0, 1, 9], " .@"), ([1, 1000], ".@"), ([3, 3], "@@")],
    ids=["none", "zeros", "both ends", "one is never none", "even"],
)
def test_shades(counts: list[int], shown: str) -> None:
    assert shades(counts) == shown


def test_the_page_of_an_empty_time_is_a_page(tmp_path: Path, host: FakeHost) -> None:
    path = tmp_path / "report.html"
    assert host.sentryfw("report", "--html", path).returncode == 0
    assert "None." in Page(path.read_text()).texts
