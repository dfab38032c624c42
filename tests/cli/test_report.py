"""report: as text, as JSON, as one page that nothing of an attacker's gets out of."""

import json
import time
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli import report_html
from sentryfw.cli.report import shades
from sentryfw.record.entry import Entry, Named, Trace
from sentryfw.record.ledger import Ledger
from support.box import Box
from support.entries import BLOCK

pytestmark = pytest.mark.netns

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='a'>&lt;\x1b[2J\u202e"


def remember(box: Box, **fields: Any) -> Entry:
    """A block of a minute ago, as the daemon would have written it."""
    now = time.time() - 60
    trace = tuple(Trace(now - n, "syn", False, f"198.18.0.1 tcp/{22 + n}") for n in range(3))
    entry = BLOCK._replace(blocked_at=now, first_seen=now - 5400, trace=trace, **fields)
    with Ledger(box.settings.paths.ledger) as ledger:
        ledger.add([entry])
    return entry


class Page(HTMLParser):
    """What a browser would make of it."""

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


def test_the_text_says_who_what_when_and_how_slowly(installed: Box) -> None:
    entry = remember(installed, tool="nmap")
    done = installed.sentryfw("report")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "blocks\t1" in lines
    assert f"slowest_address\t{entry.address}" in lines
    assert "slowest_seconds\t5400" in lines
    assert "dropped_packets_since_install\t0" in lines
    assert "part_seconds\t21600" in lines
    assert "tools\tnmap\t1" in lines
    assert any(line.startswith(f"{entry.address}\t1\t5\t") for line in lines)
    [ssh] = [line for line in lines if line.startswith("tcp/22\t")]
    assert ssh.split("\t")[1:] == ["1", f"[{' ' * 27}@]"]


def test_json_holds_all_of_it(installed: Box) -> None:
    remember(installed)
    installed.sentryfw("block", BLOCK.address)
    found = json.loads(installed.sentryfw("report", "--json", "--since", "1h").stdout)
    assert (found["blocks"], found["sources"]) == (2, 1)
    assert found["dropped_since_install"] == {"packets": 0, "bytes": 0}
    assert found["top_sources"][0]["dropped_packets"] == 0
    assert found["scans"] == {"by hand": 1, "portscan": 1}
    assert [port["port"] for port in found["ports"]] == ["tcp/22", "tcp/23", "tcp/24"]


def test_what_was_before_is_left_out(installed: Box) -> None:
    remember(installed)
    found = json.loads(installed.sentryfw("report", "--json", "--since", "30s").stdout)
    assert (found["blocks"], found["ports"]) == (0, [])
    assert found["ledger_begins"] is not None


def test_the_page_stands_alone_and_is_for_its_owner(installed: Box) -> None:
    remember(installed)
    path = installed.home / "report.html"
    done = installed.sentryfw("report", "--html", path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{path}: 1 block of 1 source" in done.stderr
    assert path.stat().st_mode & 0o777 == 0o640
    page = Page(path.read_text())
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in page.attributes}
    assert ("content", report_html.POLICY) in page.attributes
    assert page.tags.count("svg") == 2
    assert BLOCK.address in page.texts
    assert "tcp/22" in page.texts
    assert ("class", "n") in page.attributes


def test_the_charts_say_when_and_how_much(installed: Box) -> None:
    entry = remember(installed)
    path = installed.home / "report.html"
    installed.sentryfw("report", "--since", "28m", "--html", path)
    texts = Page(path.read_text()).texts
    assert "a bar is 1m; the highest: 1" in texts
    columns = [t[:-3].partition(" to ") for t in texts if " to " in t and t.endswith(": 1")]
    block = datetime.fromtimestamp(entry.blocked_at, UTC).strftime("%Y-%m-%d %H:%M")
    assert any(begin <= block <= end for begin, _, end in columns)
    [period] = [text for text in texts if text.endswith(" UTC") and " to " in text]
    begin, _, end = period.partition(" to ")
    assert (texts.count(begin), texts.count(end)) == (2, 2), "at both ends of both charts"


def test_nothing_of_an_attackers_gets_out_of_its_text(installed: Box) -> None:
    entry = remember(
        installed, tool=HOSTILE, scan=HOSTILE, address=HOSTILE, kinds=[HOSTILE],
    )  # fmt: skip
    trace = (Trace(time.time() - 30, "syn", False, f"198.18.0.1 {HOSTILE}"),)
    with Ledger(installed.settings.paths.ledger) as ledger:
        ledger.add([entry._replace(blocked_at=time.time() - 20, trace=trace)])
        ledger.add_reactions([], [Named(HOSTILE, HOSTILE, time.time())])
    path = installed.home / "report.html"
    assert installed.sentryfw("report", "--html", path).returncode == 0
    text = path.read_text()
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert not {"onerror", "src"} & {name for name, _ in page.attributes}
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in "".join(page.texts)  # as text
    plain = installed.sentryfw("report").stdout
    assert "\x1b" not in plain
    assert "\u202e" not in plain


def test_a_link_is_not_written_through(installed: Box) -> None:
    victim, path = installed.home / "victim", installed.home / "report.html"
    victim.write_text("mine")
    path.symlink_to(victim)
    remember(installed)
    assert installed.sentryfw("report", "--html", path).returncode == 1
    assert victim.read_text() == "mine"


def test_without_a_table_what_was_dropped_is_not_known(box: Box) -> None:
    remember(box)
    done = box.sentryfw("report")
    assert done.returncode == 0
    assert "how much was dropped is not known: SentryFW is not installed" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(("--since", "soon"), 2, "--since: 'soon' is no duration"), ((), 1, "no ledger yet")],
    ids=["no duration", "no ledger"],
)
def test_what_cannot_be_reported_is_said(
    box: Box, words: tuple[str, ...], code: int, said: str
) -> None:
    done = box.sentryfw("report", *words)
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize(
    ("counts", "shown"),
    [([], ""), ([0, 0], "  "), ([0, 1, 9], " .@"), ([1, 1000], ".@"), ([3, 3], "@@")],
    ids=["none", "zeros", "both ends", "one is never none", "even"],
)
def test_shades(counts: list[int], shown: str) -> None:
    assert shades(counts) == shown


def test_the_page_of_an_empty_time_is_a_page(tmp_path: Path, installed: Box) -> None:
    path = tmp_path / "report.html"
    assert installed.sentryfw("report", "--html", path).returncode == 0
    assert "None." in Page(path.read_text()).texts
