"""The texts of faults: the operator's words, for every key and every wrong value."""

import datetime as dt
import re
from typing import Any

import pytest

from sentryfw.config import parse
from sentryfw.config.files import KeyPath, Table, flatten
from sentryfw.config.model import Config
from sentryfw.config.toml_text import to_text
from sentryfw.errors import ConfigError

WRONG: tuple[Any, ...] = (
    1, -1, 10**30, "x", "", True, [], ["x"], [1], [[]], [{}], {"x": 1}, 1.5, [True], [-5],
    float("nan"), float("inf"), dt.date(2026, 1, 1), dt.time(1),
)  # fmt: skip
PYTHON = re.compile(
    r"\b(?:tuple|dict|dictionary|instance|NoneType|None|True|False|bool|integer|parse|input"
    r"|validation|datetime|pydantic|object)\b"
)


def _keys() -> list[KeyPath]:
    keys = [path for path, _ in flatten(Config().model_dump(mode="json"))]
    return sorted({path[:length] for path in keys for length in range(1, len(path) + 1)})


def _faults(path: KeyPath, value: object) -> list[str]:
    table: Table = {}
    place = table
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    try:
        parse(to_text(table).encode(), "test.toml")
    except ConfigError as error:
        return error.faults
    return []


@pytest.mark.parametrize("path", _keys(), ids=".".join)
def test_no_fault_speaks_python(path: KeyPath) -> None:
    found = [fault for value in WRONG for fault in _faults(path, value)]
    assert found
    for fault in found:
        key, _, text = fault.partition(": ")
        assert key.split(".")[0] == path[0]
        assert text
        assert not PYTHON.search(re.sub(r" \(got .*", "", text)), fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[zone]\nname = "a"', "zone: write it in double brackets, [[zone]]: there can be several"),
        (
            "[respond.webhook]",
            "respond.webhook: write it in double brackets, [[respond.webhook]]: there can be",
        ),
        ("[watch]\ninterfaces = 'eth0'", 'watch.interfaces: write a list, like ["a", "b"]'),
        ("watch = 1", "watch: write a table, [watch] (got 1)"),
        ("[watch]\nforward = 7", "watch.forward: write true or false (got 7)"),
        ("[queue]\nnumber = true", "queue.number: a number, not true or false (got true)"),
        ("[queue]\nnumber = 1.5", "queue.number: write a whole number (got 1.5)"),
        ("[queue]\nnumber = 70000", "queue.number: must be 65535 or less (got 70000)"),
        ("[detect]\nmode = 'on'", "detect.mode: must be 'block' or 'observe' (got 'on')"),
        ("[block]\ntimeouts = []", "block.timeouts: must not be empty"),
        ("[respond.mail]\nca = 5", 'respond.mail.ca: write a path in quotes, like "/a/b" (got 5)'),
    ],
)
def test_a_fault_names_what_to_write(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "test.toml")
    assert caught.value.faults[0].startswith(fault)
