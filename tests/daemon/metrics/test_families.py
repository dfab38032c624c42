"""The metric families: names, labels, and the text that Prometheus reads."""

import re

import pytest

from sentryfw.daemon.metrics.families import FAMILIES, Sample, render


def test_names_follow_the_rules_of_prometheus() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_no_label_holds_an_address() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    assert labels == {
        "version", "backend", "counter", "stage", "reason", "kind", "family", "sink", "what",
        "zone", "member", "effect",
    }  # fmt: skip


def test_unknown_families_and_missing_labels_are_refused() -> None:
    with pytest.raises(KeyError):
        render([Sample("nonsense", 1)])
    with pytest.raises(ValueError, match="shorter"):
        render([Sample("blocked_hosts", 1)])
