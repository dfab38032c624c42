"""docs/operations.md lists every key of the configuration, with its default."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.config.respond import PLACEHOLDERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def _block() -> str:
    """The TOML below "Configuration"."""
    section = PAGE.read_text().partition("\n## Configuration\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```toml\n(.*?)^```\n", section, re.DOTALL | re.MULTILINE)
    return str(block)


def _keys(model: BaseModel, *path: str) -> Iterator[tuple[str, str, Any]]:
    """Section, key and default of everything in a configuration."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _keys(value, *path, name)
        elif isinstance(value, dict):
            yield from ((".".join((*path, name)), key, number) for key, number in value.items())
        else:
            yield ".".join(path), name, value


def _unset(block: str) -> set[tuple[str, str]]:
    """Section and key of the lines that are comments, each of which is TOML."""
    section, found = "", set()
    for line in block.splitlines():
        if header := re.match(r"\[([a-z_.]+)\]", line):
            section = header[1]
        elif line.startswith("# "):
            [key] = tomllib.loads(line[2:])
            found.add((section, key))
    return found


def test_the_page_has_exactly_the_keys() -> None:
    table = tomllib.loads(_block())
    found = _unset(_block())
    for section, key, default in _keys(Config()):
        if default is None:
            assert (section, key) in found, f"[{section}] {key}"
            found.discard((section, key))
            continue
        given = table
        for part in filter(None, section.split(".")):
            given = given[part]
        assert key in given, f"[{section}] {key}"
    assert found == set(), "keys that have a default, or are none"


def test_the_defaults_on_the_page_are_the_defaults() -> None:
    assert config.parse(_block().encode(), str(PAGE)) == Config()


@pytest.mark.parametrize("key", ["# socket", "trap_tcp", "icmp", "listed_sctp"])
def test_a_key_that_is_left_out_is_noticed(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _block().splitlines(keepends=True)
    left = "".join(line for line in lines if not line.startswith(f"{key} = "))
    assert left != _block()
    monkeypatch.setitem(globals(), "_block", lambda: left)
    with pytest.raises(AssertionError):
        test_the_page_has_exactly_the_keys()


def test_the_value_of_a_commented_key_is_valid() -> None:
    """Each by itself: some of them need others."""
    block = re.sub(r"^# (\w+ = )", r"\1", _block(), flags=re.MULTILINE)
    block = block.replace('transport = "udp"', 'transport = "tls"')
    block = block.replace('security = "none"', 'security = "tls"')
    changed = config.parse(block.encode(), str(PAGE))
    assert all(value is not None for _, _, value in _keys(changed))


def test_every_placeholder_is_on_the_page() -> None:
    text = " ".join(PAGE.read_text().split())
    [names] = re.findall(r"Placeholders: `([a-z ]+)`\.", text)
    assert tuple(names.split()) == PLACEHOLDERS
