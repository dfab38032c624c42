"""The alert rules and the dashboard that are shipped ask only for what is exported."""

import json
import re
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from sentryfw.daemon.metrics.families import FAMILIES, PREFIX
from support.prometheus import promtool

DATA = resources.files("sentryfw") / "data"
RULES = (DATA / "sentryfw.rules.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((DATA / "sentryfw.dashboard.json").read_text())
PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"

EXPORTED = {PREFIX + family.name: family for family in FAMILIES}
OTHERS = {"up", "node_textfile_mtime_seconds"}
"""Prometheus' own, and node_exporter's."""
FUNCTIONS = {
    "sum", "min", "max", "rate", "increase", "changes", "time", "by", "on", "or", "offset",
    "label_values",
}  # fmt: skip
SCRAPED = {"instance", "job", "file"}
"""Labels that Prometheus or node_exporter add."""


def rule_expressions() -> list[str]:
    """`expr:` of each rule, on its own line or folded below it."""
    found = re.findall(r"^        expr: (?:>-\n((?:          .*\n)+)|(.*)\n)", RULES, re.MULTILINE)
    return [" ".join((folded or plain).split()) for folded, plain in found]


def dashboard_expressions() -> list[str]:
    return list(_expressions(DASHBOARD))


def _expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("expr", "definition") if key in node)
        for child in node.values():
            yield from _expressions(child)
    elif isinstance(node, list):
        for child in node:
            yield from _expressions(child)


def unknown(expression: str) -> set[str]:
    """Words of an expression that are neither exported, nor a label of what is, nor PromQL."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    words = set(re.findall(r"(?<![\w$.])[a-zA-Z_]\w*", bare))
    names = words & EXPORTED.keys()
    labels = {label for name in names for label in EXPORTED[name].labels}
    return words - names - labels - OTHERS - FUNCTIONS - SCRAPED - {"d"}


def test_there_are_as_many_expressions_as_rules_and_panels() -> None:
    assert len(rule_expressions()) == RULES.count("- alert: ") > 10
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len(dashboard_expressions()) >= len(panels) > 20


@pytest.mark.parametrize("expression", [*rule_expressions(), *dashboard_expressions()])
def test_an_expression_uses_exported_metrics_only(expression: str) -> None:
    assert unknown(expression) == set()
    assert set(re.findall(r"\w+", expression)) & (EXPORTED.keys() | OTHERS)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("rate(sentryfw_nonsense_total[5m])", {"sentryfw_nonsense_total"}),
        ("sum by (port) (sentryfw_blocked_hosts)", {"port"}),
        ('sentryfw_blocked_hosts{kind="x"}', {"kind"}),
    ],
)
def test_an_unknown_name_in_an_expression_is_found(expression: str, found: set[str]) -> None:
    assert unknown(expression) == found


def test_every_metric_has_a_panel_or_a_rule() -> None:
    asked = " ".join([*rule_expressions(), *dashboard_expressions()])
    silent = {name for name in EXPORTED if not re.search(rf"\b{name}\b", asked)}
    assert silent == {"sentryfw_bytes_total", "sentryfw_never_block_networks",
                      "sentryfw_queue_capacity"}  # fmt: skip


def test_counters_are_shown_by_their_rate() -> None:
    for expression in (*rule_expressions(), *dashboard_expressions()):
        for name in re.findall(r"\w+_total\b", expression):
            pattern = rf"(rate|increase|changes)\({name}(\{{[^}}]*\}})?\[[^\]]+\]"
            assert re.search(pattern, expression), expression


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULES)
    done = subprocess.run(
        [promtool(), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rule_expressions())} rules found" in done.stdout


FIRES = """\
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'sentryfw_up{instance="down"}', values: "0x20"}
      - {series: 'sentryfw_up{instance="well"}', values: "1x20"}
      - {series: 'sentryfw_blocked_hosts{instance="well",family="4"}', values: "10x20"}
      - {series: 'sentryfw_blocked_hosts{instance="well",family="6"}', values: "1x20"}
      - {series: 'sentryfw_blocked_hosts_limit{instance="well"}', values: "20x20"}
      - {series: 'sentryfw_blocked_hosts{instance="full",family="4"}', values: "19x20"}
      - {series: 'sentryfw_blocked_hosts{instance="full",family="6"}', values: "9x20"}
      - {series: 'sentryfw_blocked_hosts_limit{instance="full"}', values: "20x20"}
      - {series: 'sentryfw_queue_dropped_total{instance="full",stage="user"}', values: "0+60x20"}
      - {series: 'sentryfw_queue_dropped_total{instance="well",stage="user"}', values: "7x20"}
    alert_rule_test:
      - alertname: SentryFWDown
        eval_time: 10m
        exp_alerts: [{exp_labels: {instance: down, severity: critical}}]
      - alertname: SentryFWBlocksNearLimit
        eval_time: 10m
        exp_alerts: [{exp_labels: {instance: full, severity: warning}}]
      - alertname: SentryFWQueueDrops
        eval_time: 15m
        exp_alerts: [{exp_labels: {instance: full, severity: warning}}]
"""


def test_the_alerts_fire_for_the_host_with_the_fault_only(tmp_path: Path) -> None:
    rules = re.sub(r"^        annotations:\n(          .*\n)+", "", RULES, flags=re.MULTILINE)
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "test.yml").write_text(FIRES)
    done = subprocess.run(
        [promtool(), "test", "rules", "test.yml"], capture_output=True, text=True, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_every_metric_and_every_alert() -> None:
    page = PAGE.read_text()
    assert [name for name in EXPORTED if f"`{name.removeprefix(PREFIX)}" not in page] == []
    assert [a for a in re.findall(r"- alert: (\w+)", RULES) if f"`{a}`" not in page] == []
