"""Run the engine from its sources where compiled modules lie beside them.

    python -m bench.plain_engine MODULE [ARGUMENT ...]    run a module that way

pytest loads this module as a plugin (pyproject.toml): with SENTRYFW_ENGINE=plain the tests run the
sources.
"""

import os
import runpy
import sys
from importlib.abc import PathEntryFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path


def install() -> None:
    """Import SentryFW's modules from sources only, from now on in this process.

    Raise RuntimeError if a module of the engine is imported already.
    """
    if "sentryfw.engine" in sys.modules:
        raise RuntimeError("the engine is imported already")
    spec = find_spec("sentryfw")
    if spec is None or spec.origin is None:
        raise RuntimeError("there is no package sentryfw")
    package = Path(spec.origin).parent
    sources_only = FileFinder.path_hook((SourceFileLoader, SOURCE_SUFFIXES))

    def hook(folder: str) -> PathEntryFinder:
        if not Path(folder).is_relative_to(package):
            raise ImportError(folder)
        return sources_only(folder)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


def pytest_load_initial_conftests() -> None:
    """Choose the form of the engine before a test imports it (a hook of pytest)."""
    if os.environ.get("SENTRYFW_ENGINE") == "plain":
        install()


if __name__ == "__main__":
    install()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
