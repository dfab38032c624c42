"""A reader of Prometheus' text format, and the path of promtool."""

import re
import shutil

import pytest

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')

Parsed = list[tuple[str, dict[str, str], float]]


def parse(text: str) -> Parsed:
    """Return (name, labels, value) of each sample. Raise AssertionError for another line."""
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
    """Return the value of one sample."""
    [found] = [v for n, pairs, v in parse(text) if n == f"sentryfw_{name}" and pairs == labels]
    return found


def promtool() -> str:
    """Return the path of promtool. Skip the test without it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    return found
