"""Compile the packet path and replay's passes with mypyc; extensions lie next to their sources.

    python packaging/compile_engine.py              compile, unless the extensions are fresh
    python packaging/compile_engine.py --sources    list the files that the extensions depend on

Python prefers an extension to a source of the same name, so nothing in the package knows of this.
`make setup` runs it when a source has changed. Needs mypyc and a C compiler; without them the
sources run, at half the speed.

See docs/decisions.md: compiled-engine.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = "sentryfw"
MODULES: Final = (
    "engine/caps", "engine/classify", "engine/correlate/decoys", "engine/correlate/distributed",
    "engine/correlate/requests", "engine/correlate/zones", "engine/counters", "engine/decide",
    "engine/decided", "engine/deferral", "engine/engine", "engine/flows", "engine/model",
    "engine/networks", "engine/packed", "engine/packet", "engine/strays", "engine/table",
    "engine/track", "netfilter/schema", "netfilter/verdicts",
)  # fmt: skip
"""Modules of the packet path; fingerprint.py runs once a block and stays as it is."""
REPLAY_MODULES: Final = tuple(
    f"tools/replay/{name}" for name in (
        "capture", "conntrack", "guess", "header", "judge", "learnt", "link", "linktypes", "passes",
        "sets", "table_model", "wireless",
    )
)  # fmt: skip
"""Modules that take each packet of a capture; they call the packet path without its wrappers."""
GROUPS: Final = {
    f"{PACKAGE}.engine.packet_path": MODULES,
    f"{PACKAGE}.tools.replay.replay_path": REPLAY_MODULES,
}
"""Modules by the extension that holds their code, without mypyc's ending `__mypyc`: the daemon
does not load the one of replay."""
ALL_MODULES: Final = MODULES + REPLAY_MODULES
DIGEST: Final = "build/engine/digest"
"""File with the digest of what the extensions were made of; the target that `make` builds."""
COMPILER_TIMEOUT_S: Final = 600.0
"""Seconds for mypyc and the C compiler; they need ten."""
SETUP: Final = """
import sys
from mypyc.build import mypycify
from setuptools import setup
groups = [(files, name) for name, *files in (text.split() for text in sys.argv[1:])]
files = ["--ignore-missing-imports", *(file for files, _ in groups for file in files)]
extensions = mypycify(files, separate=groups)
setup(script_name="compile_engine", script_args=["build_ext", "--inplace"], ext_modules=extensions)
"""


class CompileError(Exception):
    """The engine cannot be compiled here: no mypyc, no C compiler, or one that fails."""


def compile_engine(root: Path = ROOT) -> None:
    """Make the extensions below `root` fresh. Raise CompileError where they cannot be made.

    Extensions that do not match the sources are removed first, so that a failure leaves none.
    """
    digest_file = root / DIGEST
    if is_fresh(root):
        digest_file.touch()  # newer than the sources, for make
        return
    digest_file.unlink(missing_ok=True)
    for path in extensions(root):
        path.unlink()
    with tempfile.TemporaryDirectory(prefix="sentryfw-") as temporary:
        copy = Path(temporary)
        shutil.copytree(
            root / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__")
        )
        _run_mypyc(copy)
        # The shared extension first: the others import it.
        for path in sorted(extensions(copy), key=lambda path: "__mypyc." not in path.name):
            shutil.move(path, root / path.relative_to(copy))
    digest_file.parent.mkdir(parents=True, exist_ok=True)
    digest_file.write_text(digest(root))


def is_fresh(root: Path = ROOT) -> bool:
    """Return whether there are extensions, made of the sources as they are now."""
    is_complete = len(extensions(root)) == len(ALL_MODULES) + len(GROUPS)
    digest_file = root / DIGEST
    return is_complete and digest_file.is_file() and digest_file.read_text() == digest(root)


def digest(root: Path = ROOT) -> str:
    """Return a digest of the sources, their list, the Python version and the mypy version."""
    made_by = f"{sys.implementation.cache_tag} {_mypy_version()} {GROUPS}\0"
    found = hashlib.sha256(made_by.encode())
    for path in sources(root):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def extensions(root: Path = ROOT) -> list[Path]:
    """Return the extensions that lie next to the package's sources."""
    folders = {root / PACKAGE / Path(module).parent for module in ALL_MODULES}
    return sorted(path for folder in folders for path in folder.glob("*.so"))


def sources(root: Path = ROOT) -> list[Path]:
    """Return the modules and all that they import from the package: mypyc copies its constants."""
    waiting = [root / PACKAGE / f"{module}.py" for module in ALL_MODULES]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(root, path)
    return sorted(found)


def _mypy_version() -> str:
    """Return the version of mypy that is installed, or an empty text."""
    try:
        return importlib.metadata.version("mypy")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _imported(root: Path, path: Path) -> list[Path]:
    """Return the package's files that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    places = [root / name.replace(".", "/") for name in names if name.startswith(f"{PACKAGE}.")]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in files if file.is_file()]


def _site_of_mypyc() -> Path:
    """Return the folder of packages that mypyc is in. Raise CompileError without mypyc."""
    found = importlib.util.find_spec("mypyc")
    if found is None or found.origin is None:
        raise CompileError("mypyc: not installed")
    return Path(found.origin).parent.parent


def _run_mypyc(folder: Path) -> None:
    """Run mypyc on the package below a folder."""
    groups = [
        " ".join((name, *(f"{PACKAGE}/{module}.py" for module in modules)))
        for name, modules in GROUPS.items()
    ]
    command = [sys.executable, "-P", "-c", SETUP, *groups]
    site = _site_of_mypyc()
    # A newer compiler's warnings about generated code must not end the build. Neither the folder
    # nor that of mypyc's headers, which its asserts name, may differ between two builds.
    flags = f"-Wno-error -g0 -ffile-prefix-map={folder}=. -ffile-prefix-map={site}=."
    environment = {
        **os.environ, "CFLAGS": flags, "LDFLAGS": "-Wl,--build-id=none",
        "PYTHONHASHSEED": "0",  # mypyc writes what several groups share in the order of a set
    }  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True,
            timeout=COMPILER_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CompileError(f"mypyc: timed out after {COMPILER_TIMEOUT_S:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CompileError(f"mypyc: {lines[-1] if lines else f'exit code {done.returncode}'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the engine.")
    parser.add_argument("--sources", action="store_true", help="list the files it depends on")
    if parser.parse_args().sources:
        sys.stdout.write("".join(f"{path.relative_to(ROOT)}\n" for path in sources()))
        return
    try:
        compile_engine()
    except (CompileError, OSError) as error:
        sys.exit(f"compile_engine: {error}: the engine runs from its sources, at half the speed")


if __name__ == "__main__":
    main()
