"""Findings in a few words, for rows of 80 columns."""

from typing import Any

import pytest

from sentryfw.cli.phrases import finding, left

ITEM = {
    "scan": "portscan", "tool": "nmap", "kinds": ["syn"], "targets": 3, "timeout_s": 3600.0,
    "expires_in_s": 61.0, "reason": "3 distinct targets within the window",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "portscan by nmap: syn, 3 targets"),
        ({"tool": "unknown"}, "portscan: syn, 3 targets"),
        ({"tool": ""}, "portscan: syn, 3 targets"),
        ({"kinds": ["syn", "fin"]}, "portscan by nmap: syn, fin, 3 targets"),
        ({"targets": 1, "reason": "1 distinct target within the slow window"},
         "portscan by nmap: syn, 1 target"),
        ({"kinds": ["connect"], "targets": 1, "tool": "unknown",
          "reason": "1 distinct target within the window, with the decoy at tcp/2222"},
         "portscan: connect, 1 target, with the decoy at tcp/2222"),
        ({"scan": "decoy-scan", "reason": "the true source is unknown: 4 more sent the same"},
         "decoy-scan by nmap: syn, 3 targets, the true source is unknown: 4 more sent the same"),
        ({"scan": "", "tool": "", "kinds": [], "reason": "blocked by hand: ticket 12"},
         "blocked by hand: ticket 12"),
        ({"reason": "observe"}, "portscan by nmap: syn, 3 targets"),
    ],
    ids=str,
)  # fmt: skip
def test_a_finding_names_scan_tool_kinds_targets_and_decoy(
    change: dict[str, Any], text: str
) -> None:
    assert finding(ITEM | change) == text


def test_the_time_that_is_left() -> None:
    assert left(ITEM) == "1m1s"
    assert left(ITEM | {"timeout_s": 0.0, "expires_in_s": 0.0}) == "forever"
