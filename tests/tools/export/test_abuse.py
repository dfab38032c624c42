"""Scans in the formats of abuse desks, rendered without a kernel or a ledger."""

import csv
import io
import json
from typing import Final

from sentryfw.record.records import ProbeTrace
from sentryfw.tools.export.abuse import RENDER
from sentryfw.tools.export.blocks import AbuseReporter, Accused
from support.entries import BLOCK, BLOCKED_AT

TRACE: Final = (ProbeTrace(BLOCKED_AT, "syn", listed=False, target="198.18.0.1 tcp/22"),)
SCAN: Final = Accused(BLOCK.address, BLOCK._replace(trace=TRACE), [])
REPORTER: Final = AbuseReporter("Example", "abuse@example.org", "example.org", 4711)


def _render(form: str, *found: Accused) -> tuple[str, list[str]]:
    said: list[str] = []
    return "".join(RENDER[form](iter(found), REPORTER, said.append)), said


def test_abuseipdb_has_a_row_for_an_address_without_our_addresses() -> None:
    text, said = _render("abuseipdb", SCAN, SCAN)
    [row] = csv.DictReader(io.StringIO(text))
    assert (row["IP"], row["Categories"]) == (BLOCK.address, "14")
    assert "198.18.0.1" not in text
    assert said == []


def test_dshield_has_a_line_for_each_probe_and_marks_an_unknown_port() -> None:
    [line] = _render("dshield", SCAN)[0].splitlines()
    assert line.split("\t")[1:] == [
        "4711", "1", BLOCK.address, "???", "198.18.0.1", "22", "TCP", "S",
    ]  # fmt: skip


def test_xarf_leaves_out_scans_without_a_packet_and_counts_them() -> None:
    text, said = _render("xarf", SCAN)
    assert [json.loads(line) for line in text.splitlines()] == []
    assert len(said) == 1
    assert "1" in said[0]
