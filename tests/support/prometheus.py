"""Prometheus' text format, read; and promtool, where it is."""

import re
import shutil

import pytest

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')

Parsed = list[tuple[str, dict[str, str], float]]


def parse(text: str) -> Parsed:
    """(name, labels, value) of each sample. AssertionError for a line that is none."""
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match is not None, line
        labels = dict(_LABEL.findall(match[2] or ""))
        found.append((match[1], labels, float(match[3])))
    return found


def value(text: str, name: str, **labels: str) -> float:
    """The value of one sample."""
    [found] = [v for n, pairs, v in parse(text) if n == f"sentryfw_{name}" and pairs == labels]
    return found


def promtool() -> str:
    """Its path; the test is skipped where it is not."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    return found
