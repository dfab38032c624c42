"""The report as a page: escaped texts, and a policy that allows no script."""

from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.tools.report.page import POLICY, page
from sentryfw.tools.report.report import Report

HOSTILE = "<script>alert(1)</script>\x1b[2J"
REPORT: Report = {
    "since": "2026-01-01T00:00:00.000000+0000",
    "until": "2026-01-02T00:00:00.000000+0000",
    "ledger_begins": None,
    "drawn_since": "2026-01-01T00:00:00.000000+0000",
    "blocks": 1,
    "sources": 1,
    "unblocked_early": 0,
    "confinements": 2,
    "dropped_since_install": None,
    "dropped_remark": HOSTILE,
    "slowest": None,
    "scans": {HOSTILE: 1},
    "tools": {},
    "kinds": {"syn": 3},
    "families": {"ipv4": 1},
    "countries": {},
    "networks": {},
    "labels": {},
    "origin_remark": "",
    "not_blocked": {},
    "part_seconds": 43200.0,
    "timeline": [0, 1],
    "hours": [],
    "top_sources": [
        {
            "address": "203.0.113.7",
            "blocks": 1,
            "probes": 3,
            "first_seen": "2026-01-01T13:00:00.000000+0000",
            "last_blocked": "2026-01-01T13:00:01.000000+0000",
            "origin": NOWHERE.item(),
            "scans": "portscan",
            "tools": HOSTILE,
            "dropped_packets": None,
            "host": HOSTILE,
        }
    ],
    "would_block": [],
    "ports": [{"port": "tcp/22", "probes": 3, "heat": [0, 3]}],
}


def test_a_text_of_the_ledger_is_escaped() -> None:
    text = page(REPORT)
    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)") == 4


def test_the_policy_of_the_page_forbids_scripts_and_requests() -> None:
    assert POLICY.startswith("default-src 'none'")
    assert f'content="{POLICY}"' in page(REPORT)


def test_unknown_drops_are_a_question_mark_and_columns_have_their_period() -> None:
    text = page(REPORT)
    assert "<dt>packets dropped since install</dt><dd>?</dd>" in text
    assert "<dt>partners confined</dt><dd>2</dd>" in text
    assert "<title>2026-01-01 12:00 to 2026-01-02 00:00: 3</title>" in text


def test_observed_sources_have_a_table_of_their_own() -> None:
    assert "Would have been blocked" not in page(REPORT)
    text = page({**REPORT, "would_block": REPORT["top_sources"]})
    assert text.count(">203.0.113.7</td>") == 2
    assert text.index("Would have been blocked") < text.rindex(">203.0.113.7</td>")
    assert "<script" not in text


def test_an_empty_report_has_no_charts() -> None:
    empty: Report = {**REPORT, "timeline": [0, 0], "ports": [], "top_sources": []}
    assert "<svg" not in page(empty)


def test_a_narrow_screen_gets_a_line_for_each_cell_with_its_name() -> None:
    text = page(REPORT)
    assert '<meta name="viewport" content="width=device-width">' in text
    assert "@media (max-width: 40rem)" in text
    assert '<td data-name="address">203.0.113.7</td>' in text
    assert '<td class="n" data-name="probes">3</td>' in text
    assert text.count('<div class="wide"><svg') == 2


def test_a_protocol_without_ports_is_named() -> None:
    ports = [{"port": "47/0", "probes": 3, "heat": [0, 3]}]
    assert ">GRE (IP protocol 47)</text>" in page({**REPORT, "ports": ports})  # type: ignore[typeddict-item]


def test_origins_have_tables_where_they_are_known() -> None:
    assert "<h2>Countries</h2>" not in page(REPORT)
    [source] = REPORT["top_sources"]
    origin = Origin("DE", 64500, HOSTILE, (HOSTILE,)).item()
    report: Report = {
        **REPORT, "countries": {"DE": 1}, "networks": {HOSTILE: 1}, "labels": {HOSTILE: 1},
        "origin_remark": HOSTILE, "top_sources": [{**source, "origin": origin}],
    }  # fmt: skip
    text = page(report)
    for title in ("Countries", "Networks", "Labels"):
        assert f"<h2>{title}</h2>" in text
    assert "<script" not in text
    assert "\x1b" not in text
