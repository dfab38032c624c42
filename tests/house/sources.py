"""The project's Python files, parsed once, and the exceptions that pyproject.toml grants."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
TREES: Final = ("sentryfw", "tests", "bench", "packaging")


class Offence(NamedTuple):
    """A place that breaks a rule."""

    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule} {self.path}:{self.line} {self.text}"


class Source:
    """A Python file: its path below the project's root, its text and its syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def docstrings(self) -> dict[int, ast.Constant]:
        """Return the string statements by id: docstrings, and those below fields and constants."""
        return {
            id(node.value): node.value
            for node in self.nodes
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        }

    @property
    def is_product(self) -> bool:
        """Whether this file is installed: part of the package."""
        return self.path.startswith("sentryfw/")


@cache
def sources(*trees: str) -> tuple[Source, ...]:
    """Return the Python files of some trees; of all without arguments."""
    return tuple(_read(trees or TREES))


def _read(trees: tuple[str, ...]) -> Iterator[Source]:
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            yield Source(path.relative_to(ROOT).as_posix(), path.read_text())


@cache
def house() -> dict[str, Any]:
    """Return [tool.sentryfw.house] of pyproject.toml."""
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found: dict[str, Any] = tools["sentryfw"]["house"]
    return found


def exceptions() -> list[dict[str, Any]]:
    """Return the exceptions of pyproject.toml: rule, path, text (a part of it) and reason."""
    found: list[dict[str, Any]] = house()["exceptions"]
    return found


def is_excepted(offence: Offence) -> bool:
    """Whether pyproject.toml excepts an offence."""
    return any(covers(exception, offence) for exception in exceptions())


def covers(exception: dict[str, Any], offence: Offence) -> bool:
    """Whether one exception of pyproject.toml is about an offence."""
    return bool(
        exception["rule"] == offence.rule
        and exception["path"] == offence.path
        and exception.get("text", "") in offence.text
    )
