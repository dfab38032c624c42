"""Build hook of hatchling: put the compiled engine into the wheel, if it is fresh.

Without it, or with SENTRYFW_ENGINE=plain, the wheel is made of sources alone, for every platform.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.append(str(Path(__file__).parent))
import compile_engine


class CompiledEngine(BuildHookInterface[Any]):
    """Adds the extensions to a wheel and gives it the platform's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        is_plain = os.environ.get("SENTRYFW_ENGINE") == "plain"
        if version == "editable" or is_plain or not compile_engine.is_fresh(root):
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in compile_engine.extensions(root):
            build_data["force_include"][str(path)] = path.relative_to(root).as_posix()
