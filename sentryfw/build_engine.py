"""Compile the engine (see compiled.py), where mypyc and a C compiler are at hand.

python -m sentryfw.build_engine
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from sentryfw.compiled import HOME, MADE, MODULES, SUFFIX, name
from sentryfw.errors import SentryError, Unsupported

PATIENCE: Final = 600.0
"""Seconds for the compiler; it needs ten."""


def make() -> Path:
    """Compile, unless it is done; where it is. Unsupported where it cannot be done here."""
    made = MADE / name()
    if made.is_dir():
        return made
    with tempfile.TemporaryDirectory(prefix="sentryfw-") as temporary:
        here = Path(temporary)
        shutil.copytree(
            HOME, here / HOME.name, ignore=shutil.ignore_patterns("__pycache__", MADE.name)
        )
        _run_mypyc(here, [f"{HOME.name}/{module}.py" for module in MODULES])
        shutil.rmtree(MADE, ignore_errors=True)
        MADE.mkdir()
        fresh = made.with_suffix(".new")
        fresh.mkdir()
        for root in (here, here / HOME.name):  # what they have in common, and each module
            for file in (*root.glob(f"*{SUFFIX}"), *root.glob(f"*/*{SUFFIX}")):
                place = fresh / file.relative_to(root)
                place.parent.mkdir(exist_ok=True)
                shutil.move(file, place)
        fresh.rename(made)  # whole, or not there
    return made


def _run_mypyc(here: Path, files: list[str]) -> None:
    (here / "mypy.ini").write_text("[mypy]\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypyc", *files]
    # Warnings of a newer compiler about generated code are no errors.
    environment = {**os.environ, "CFLAGS": "-Wno-error -g0", "SENTRYFW_ENGINE": "plain"}
    try:
        done = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unsupported(f"mypyc: not done in {PATIENCE:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unsupported(f"mypyc: {said[-1] if said else done.returncode}")


if __name__ == "__main__":
    try:
        make()
    except (SentryError, OSError) as error:
        sys.exit(f"sentryfw: {error}: the engine runs as it is, at half the speed")
