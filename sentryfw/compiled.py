"""The way of a packet in machine code: mypyc compiles its modules as they are, three times as fast.

What build_engine.py made stands in engine/compiled/, under a name that is made from the sources and
from Python's version. It is taken in their place while that name is theirs, so it is never older
than they are; without it, or with SENTRYFW_ENGINE=plain, the sources run. Both behave the same.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

import sentryfw.engine
import sentryfw.netfilter

MODULES: Final = (
    "engine/classify", "engine/correlate", "engine/decide", "engine/engine", "engine/model",
    "engine/packet", "engine/strays", "engine/track", "netfilter/nfqueue",
)  # fmt: skip
"""Those of the packet path; fingerprint.py is looked at once a block."""
HOME: Final = Path(__file__).parent
MADE: Final = HOME / "engine" / "compiled"
SUFFIX: Final = ".so"


def use() -> None:
    """From now on the engine's modules are the compiled ones, if they are there."""
    made = MADE / name()
    if os.environ.get("SENTRYFW_ENGINE") == "plain" or not made.is_dir():
        return
    for library in made.glob(f"*__mypyc*{SUFFIX}"):  # what the modules have in common
        spec = importlib.util.spec_from_file_location(library.name.split(".")[0], library)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    for package in (sentryfw.engine, sentryfw.netfilter):
        package.__path__.insert(0, str(made / package.__name__.rpartition(".")[2]))


def is_used() -> bool:
    """Whether this process runs the compiled engine."""
    return str(MADE / name() / "engine") in sentryfw.engine.__path__


def name() -> str:
    """Of what is made from these sources by this Python."""
    sources = b"\0".join((HOME / f"{module}.py").read_bytes() for module in MODULES)
    return f"{sys.implementation.cache_tag}-{importlib.util.source_hash(sources).hex()}"
