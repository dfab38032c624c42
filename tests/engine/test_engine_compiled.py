"""The compiled engine and its sources decide alike."""

import json
import subprocess
import sys
from typing import Any, Final

STREAM: Final = """
import hashlib, json, random, sys
from sentryfw.config.model import Config
from sentryfw.engine.engine import Engine, is_compiled
from sentryfw.engine.model import Meta
from bench.engine import syns

rng = random.Random(7)
config = Config()
engine = Engine(config.horizons(), config.policy())
seen = hashlib.sha256()
blocks = 0
now = 0.0
for number, packet in enumerate(syns(sources=3000)):
    now += rng.random()
    changed = bytearray(packet)
    for _ in range(rng.choice((0, 0, 1, 3))):  # lengths, protocols and flags as well
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
counters = sorted(engine.counters.as_dict().items())
print(json.dumps([is_compiled(), blocks, counters, seen.hexdigest()]))
"""


PLAIN: Final = "from bench import plain_engine; plain_engine.install()\n"


def _run(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_engines_decide_alike_about_any_packets() -> None:
    is_compiled, *compiled = _run(STREAM)
    is_still_compiled, *plain = _run(f"{PLAIN}{STREAM}")
    assert (is_compiled, is_still_compiled) == (True, False)
    assert compiled == plain
    assert compiled[0] > 100, "blocks"
