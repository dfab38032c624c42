"""The rules that keep the house; run as a script, list each place that breaks one.

    python tests/house/rules.py [RULE or PATH ...]

Arguments select: names of rules, beginnings of paths. Exceptions are in pyproject.toml under
[tool.sentryfw.house], each with its reason.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Final

import places
import prose
import shape
from sources import Offence, covers, exceptions, is_excepted

Rule = Callable[[], Iterator[Offence]]

RULES: Final[dict[str, Rule]] = {
    "module-lines": shape.module_lines,
    "function-lines": shape.function_lines,
    "class-sizes": shape.class_sizes,
    "folders": shape.folders,
    "class-names": shape.class_names,
    "mirror": shape.mirror,
    "positional": shape.positional,
    "docstring-opening": prose.docstring_openings,
    "words": prose.words,
    "constant-units": prose.constant_units,
    "config-name": prose.config_name,
    "sql-place": places.sql_place,
    "netlink-place": places.netlink_place,
    "set-names": places.set_names,
    "interpreter-flags": places.interpreter_flags,
    "broad-except": places.broad_except,
    "skip-reasons": places.skip_reasons,
    "import-effects": places.import_effects,
}


def offences(rule: str) -> list[Offence]:
    """Return the places that break a rule, without those that are excepted."""
    return sorted(item for item in RULES[rule]() if not is_excepted(item))


def unused_exceptions() -> list[str]:
    """Return the exceptions that no place needs any more, or that give no reason."""
    every = [item for rule in RULES.values() for item in rule()]
    return [
        f"{exception['rule']} {exception['path']}"
        for exception in exceptions()
        if not exception.get("reason") or not any(covers(exception, item) for item in every)
    ]


def main(chosen: list[str]) -> int:
    """Print the offences; return 1 if there are any."""
    names = [name for name in chosen if name in RULES] or list(RULES)
    paths = tuple(item.removeprefix("./") for item in chosen if item not in RULES)
    found = [item for name in names for item in offences(name) if item.path.startswith(paths or "")]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
