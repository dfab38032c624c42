"""The compiled engine: never older than its sources, and no different from them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import sentryfw
from sentryfw import build_engine, compiled

PACKAGE: Final = Path(sentryfw.__file__).parent
STREAM: Final = """
import hashlib, json, random, sys
from sentryfw.compiled import is_used
from sentryfw.config import Config
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Meta
from bench.engine import syns

rng = random.Random(7)
config = Config()
engine = Engine(config.horizons(), config.policy(()))
seen = hashlib.sha256()
blocks = 0
now = 0.0
for number, packet in enumerate(syns(sources=3000)):
    now += rng.random()
    changed = bytearray(packet)
    for _ in range(rng.choice((0, 0, 1, 3))):  # any byte, also of lengths, protocols and flags
        changed[rng.randrange(len(changed))] = rng.getrandbits(8)
    cut = bytes(changed[: rng.choice((40, 40, 40, rng.randrange(41)))])
    bits = rng.choice((8, 8, 8, rng.randrange(16)))
    meta = Meta(
        unlisted=bool(bits & 8), partner=bool(bits & 4), half_open=bool(bits & 2),
        peer=bool(bits & 1),
    )
    outcome = engine.handle(cut, meta, now)
    blocks += len(outcome.blocks)
    seen.update(repr(outcome).encode())
print(json.dumps([is_used(), blocks, sorted(engine.counters.items()), seen.hexdigest()]))
"""


def _run(engine: str, *, package: Path = PACKAGE, code: str = STREAM) -> Any:
    paths = os.pathsep.join((str(package.parent), str(PACKAGE.parent)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "SENTRYFW_ENGINE": engine},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def made() -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    return build_engine.make()


@pytest.mark.usefixtures("made")
def test_both_engines_decide_the_same_about_any_packets() -> None:
    was_used, *compiled_says = _run("compiled")
    is_used, *plain_says = _run("plain")
    assert (was_used, is_used) == (True, False)
    assert compiled_says == plain_says
    assert compiled_says[0] > 100


def test_sources_that_have_changed_are_not_run_in_their_old_form(
    made: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "sentryfw"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "rulesets", tmp_path / "rulesets")
    ask = "import json; from sentryfw import compiled; print(json.dumps(compiled.is_used()))"
    assert _run("compiled", package=copied, code=ask) is True
    with (copied / "engine/track.py").open("a") as file:
        file.write("# changed\n")
    assert _run("compiled", package=copied, code=ask) is False
    assert made.is_dir()


def test_without_a_compiler_the_fault_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build_engine, "MADE", tmp_path / "compiled")
    monkeypatch.setenv("CC", "/nonexistent/cc")
    with pytest.raises(build_engine.Unsupported, match="mypyc: "):
        build_engine.make()
    assert not (tmp_path / "compiled").exists()


def test_what_is_made_is_named_after_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled.name()
    monkeypatch.setattr(compiled, "MODULES", compiled.MODULES[1:])
    assert compiled.name() != before
