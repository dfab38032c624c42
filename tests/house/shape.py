"""Rules about shape: sizes, names of classes, the mirror of the tests, calls of constructors."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath
from typing import Final

from sources import Offence, sources

MAX_MODULE_LINES: Final = 350
MAX_CLASS_LINES: Final = 250
MAX_METHODS: Final = 20
MAX_ATTRIBUTES: Final = 15
MAX_FUNCTION_LINES: Final = 45
MAX_POSITIONAL: Final = 6
MAX_TOP_FILES: Final = 5
MAX_TOP_FOLDERS: Final = 17
MAX_FOLDER_FILES: Final = 18
SIZED: Final = ("sentryfw", "bench", "packaging")
"""Trees whose modules, classes and functions have a size; a test may be as long as its case."""
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_lines() -> Iterator[Offence]:
    """A module has at most 350 lines."""
    for source in sources(*SIZED):
        count = source.text.count("\n")
        if count > MAX_MODULE_LINES:
            yield Offence("module-lines", source.path, 1, f"{count} lines")


def function_lines() -> Iterator[Offence]:
    """A function has at most 45 lines."""
    for source in sources(*SIZED):
        for node in source.nodes:
            if isinstance(node, FUNCTIONS) and _lines(node) > MAX_FUNCTION_LINES:
                text = f"{node.name}: {_lines(node)} lines"
                yield Offence("function-lines", source.path, node.lineno, text)


def class_sizes() -> Iterator[Offence]:
    """A class has at most 250 lines, 20 methods and 15 instance attributes."""
    for source in sources(*SIZED):
        for node in source.nodes:
            if isinstance(node, ast.ClassDef):
                methods = {item.name for item in node.body if isinstance(item, FUNCTIONS)}
                for what, count, limit in (
                    ("lines", _lines(node), MAX_CLASS_LINES),
                    ("methods", len(methods), MAX_METHODS),
                    ("instance attributes", len(_attributes(node)), MAX_ATTRIBUTES),
                ):
                    if count > limit:
                        text = f"{node.name}: {count} {what}"
                        yield Offence("class-sizes", source.path, node.lineno, text)


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that the methods of a class assign on self."""
    return {
        item.attr
        for item in ast.walk(node)
        if isinstance(item, ast.Attribute)
        and isinstance(item.ctx, ast.Store)
        and isinstance(item.value, ast.Name)
        and item.value.id == "self"
    }


def folders() -> Iterator[Offence]:
    """The package has at most 5 files and 17 folders at its top, a folder at most 18 files."""
    counts: dict[str, int] = defaultdict(int)
    for source in sources("sentryfw"):
        counts[PurePath(source.path).parent.as_posix()] += 1
    top = {PurePath(folder).parts[1] for folder in counts if folder != "sentryfw"}
    if counts["sentryfw"] > MAX_TOP_FILES:
        yield Offence("folders", "sentryfw", 1, f"{counts['sentryfw']} files at the top level")
    if len(top) > MAX_TOP_FOLDERS:
        yield Offence("folders", "sentryfw", 1, f"{len(top)} folders at the top level")
    for folder, count in counts.items():
        if count > MAX_FOLDER_FILES:
            yield Offence("folders", folder, 1, f"{count} files")


def class_names() -> Iterator[Offence]:
    """A public class name stands for one thing in the package."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source in sources("sentryfw"):
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append((source.path, node.lineno))
    for name, found in places.items():
        for path, line in found[1:]:
            yield Offence("class-names", path, line, f"{name} is also in {found[0][0]}")


def mirror() -> Iterator[Offence]:
    """tests/<folder>/test_<module>.py mirrors sentryfw/<folder>/<module>.py, both ways.

    A module's tests may be several files: test_<module>_<subject>.py. Tests of more than a
    module lie in folders that the package does not have (tests/kernel and its like).
    """
    modules: dict[str, set[str]] = defaultdict(set)
    for source in sources("sentryfw"):
        path = PurePath(source.path)
        modules[path.parent.relative_to("sentryfw").as_posix()].add(path.stem)
    tests: dict[str, list[str]] = defaultdict(list)
    for source in sources("tests"):
        path = PurePath(source.path)
        if path.stem.startswith("test_"):
            tests[path.parent.relative_to("tests").as_posix()].append(path.stem[len("test_") :])
    for folder, names in modules.items():
        for name in names:
            text = "has no test file"
            if not name.startswith("__") and not any(_tests(name, test) for test in tests[folder]):
                yield Offence("mirror", _path("sentryfw", folder, name), 1, text)
    for folder in tests.keys() & modules.keys():
        for test in tests[folder]:
            if not any(_tests(name, test) for name in modules[folder]):
                text = f"tests no module of sentryfw/{folder}"
                yield Offence("mirror", _path("tests", folder, f"test_{test}"), 1, text)


def _tests(module: str, test: str) -> bool:
    return test == module or test.startswith(f"{module}_")


def _path(tree: str, folder: str, name: str) -> str:
    return (PurePath(tree) / folder / f"{name}.py").as_posix()


def positional() -> Iterator[Offence]:
    """No class of the package is constructed from more than six positional values."""
    fields = _constructors()
    for source in sources():
        for node in source.nodes:
            if isinstance(node, ast.Call) and (name := _called(node)) in fields:
                starred = any(isinstance(item, ast.Starred) for item in node.args)
                count = fields[name] if starred else len(node.args)
                if count > MAX_POSITIONAL and node.args:
                    text = f"{name}: {'*' if starred else count} positional values"
                    yield Offence("positional", source.path, node.lineno, text)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


@cache
def _constructors() -> dict[str, int]:
    """Return the classes of the package, and how many positional values they can take."""
    found: dict[str, int] = {}
    for source in sources("sentryfw"):
        for node in source.nodes:
            if isinstance(node, ast.ClassDef):
                found[node.name] = max(_parameters(node), found.get(node.name, 0))
    return found


def _parameters(node: ast.ClassDef) -> int:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return len(item.args.args) - 1
    return sum(isinstance(item, ast.AnnAssign) for item in node.body)
