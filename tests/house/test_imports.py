"""Importing a module of the package changes nothing in the interpreter."""

import json
import os
import subprocess
import sys
from typing import Final

import pytest
from sources import ROOT, sources

MODULES: Final = sorted(
    source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for source in sources("sentryfw")
    if not source.path.endswith("__main__.py")
)
IMPORT: Final = """
import json, os, sys
from itertools import groupby
from places import effects_of

for _, modules in groupby(sys.argv[1:], lambda name: name.split(".")[1:2]):
    child = os.fork()  # for each folder an interpreter that has nothing of the package
    if not child:
        for module in modules:
            print(json.dumps([module, effects_of(module)]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
RUN: Final = """
import importlib.metadata, sys

calls = []
find = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **words: calls.append(words) or find(**words)
from {module} import main
try:
    main()
except SystemExit:
    pass
from sentryfw import config
assert config.parse(b"", "nothing").detect.trigger == 3
assert calls == {calls}, calls
"""


def test_importing_a_module_changes_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "house")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORT, *MODULES], capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.keys() == set(MODULES)
    assert {module: effects for module, effects in found.items() if effects} == {}


def run(module: str, *, calls: str, environment: dict[str, str]) -> None:
    """Run an entry point that ends at once; check how pydantic searched for plugins."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN.format(module=module, calls=calls), "--help"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


WITHOUT: Final = {name: v for name, v in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
ENTRY_POINTS: Final = ("sentryfw.cli.app", "sentryfw.respond.helper")


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_an_entry_point_switches_off_the_search_for_plugins(module: str) -> None:
    run(module, calls="[]", environment=WITHOUT)


def test_an_operator_can_switch_the_search_for_plugins_on() -> None:
    environment = WITHOUT | {"PYDANTIC_DISABLE_PLUGINS": ""}
    run("sentryfw.respond.helper", calls="[{'group': 'pydantic'}]", environment=environment)
