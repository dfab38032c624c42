"""Numbers of the kernel's headers, read through the C compiler."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


def numbers_of(module: ModuleType, pattern: str) -> dict[str, int]:
    """Return the integer constants of a module whose names match a pattern."""
    return {
        name: value
        for name, value in vars(module).items()
        if re.match(pattern, name) and isinstance(value, int)
    }


def header_numbers(names: Iterable[str], headers: Iterable[str], place: Path) -> dict[str, int]:
    """Return the value of each name that the headers define; `place`: a directory to compile in.

    The headers of an older kernel lack some names.
    """
    wanted = sorted(names)
    missing = _undeclared(_compiled(wanted, headers, place))
    wanted = [name for name in wanted if name not in missing]
    done = _compiled(wanted, headers, place)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([place / "numbers"], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in map(str.split, listed.stdout.splitlines())}


def _compiled(
    names: list[str], headers: Iterable[str], place: Path
) -> subprocess.CompletedProcess[str]:
    includes = "".join(f"#include <{header}>\n" for header in ("stdio.h", *headers))
    lines = "".join(f'    printf("{name} %lld\\n", (long long){name});\n' for name in names)
    source = place / "numbers.c"
    source.write_text(f"{includes}int main(void) {{\n{lines}    return 0;\n}}\n")
    return subprocess.run(
        ["gcc", "-fmax-errors=0", "-o", place / "numbers", source],
        capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def _undeclared(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"'(\w+)' undeclared", done.stderr))
