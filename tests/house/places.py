"""Rules about places: the folders for SQL, netlink's numbers and set names, and import effects."""

import ast
import gc
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Final

from sources import Offence, Source, sources

SQL: Final = re.compile(
    r"\b(?:SELECT\s.+\sFROM\s|INSERT\s(?:OR\s\w+\s)?INTO\s|UPDATE\s\w+\sSET\s|DELETE\sFROM\s"
    r"|CREATE\s(?:TABLE|INDEX)\s|ALTER\sTABLE\s|PRAGMA\s)",
    re.DOTALL,
)
NETLINK: Final = re.compile(r"^_?(?:NFTA?|NLM|NLMSG|NLA|NFNL|NFQNL|NFQA)_")
SET_NAME: Final = re.compile(r"^[a-z_]+(?:4|6|_tcp|_udp)$")
EFFECTS: Final = re.compile(
    r"^(?:gc\.(?:freeze|disable|set_threshold)|sys\.(?:setswitchinterval|settrace|setrecursionlimit)"
    r"|sys\.(?:path|meta_path|path_hooks|modules)\.\w+|.*__path__\.\w+|os\.(?:umask|putenv|environ\.\w+)"
    r"|signal\.signal|logging\.basicConfig|locale\.setlocale)$"
)
"""Calls that change the interpreter or its process; entry points make them, in a function."""


def sql_place() -> Iterator[Offence]:
    """SQL is in record/ only."""
    for source in sources("sentryfw"):
        if not source.path.startswith("sentryfw/record/"):
            for node in _strings(source):
                if id(node) not in source.docstrings and SQL.search(str(node.value)):
                    text = " ".join(str(node.value).split())[:70]
                    yield Offence("sql-place", source.path, node.lineno, text)


def _strings(source: Source) -> Iterator[ast.Constant]:
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def netlink_place() -> Iterator[Offence]:
    """netlink's numbers (NFT_, NFTA_, NLM_ ...) are defined in netlink/ only."""
    for source in sources("sentryfw"):
        if not source.path.startswith("sentryfw/netlink/"):
            for node in source.nodes:
                if (
                    isinstance(node, ast.Name)
                    and isinstance(node.ctx, ast.Store)
                    and NETLINK.match(node.id)
                ):
                    yield Offence("netlink-place", source.path, node.lineno, node.id)


def set_names() -> Iterator[Offence]:
    """Names of the table's sets are string literals in netfilter/schema.py only."""
    names = _set_names()
    for source in sources("sentryfw"):
        if source.path != "sentryfw/netfilter/schema.py":
            for node in _strings(source):
                if node.value in names and id(node) not in source.docstrings:
                    yield Offence("set-names", source.path, node.lineno, str(node.value))


def _set_names() -> set[str]:
    """Return the set names that schema.py spells out."""
    (schema,) = (item for item in sources("sentryfw") if item.path.endswith("netfilter/schema.py"))
    return {str(node.value) for node in _strings(schema) if SET_NAME.match(str(node.value))}


def interpreter_flags() -> Iterator[Offence]:
    """A list that starts with sys.executable continues with -I or -P, against foreign modules."""
    for source in sources():
        for node in source.nodes:
            if not isinstance(node, (ast.List, ast.Tuple)) or not node.elts:
                continue
            if ast.unparse(node.elts[0]) != "sys.executable":
                continue
            flag = node.elts[1] if len(node.elts) > 1 else None
            if not isinstance(flag, ast.Constant) or flag.value not in {"-I", "-P"}:
                text = f"sys.executable without -I or -P: {ast.unparse(node)[:60]}"
                yield Offence("interpreter-flags", source.path, node.lineno, text)


def broad_except() -> Iterator[Offence]:
    """An `except Exception` logs the traceback (log.exception) or raises."""
    for source in sources("sentryfw"):
        for node in source.nodes:
            if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _answers(node):
                text = "neither log.exception nor raise"
                yield Offence("broad-except", source.path, node.lineno, text)


def _is_broad(node: ast.ExceptHandler) -> bool:
    caught = ast.walk(node.type) if node.type else []
    names = {item.id for item in caught if isinstance(item, ast.Name)}
    return node.type is None or bool(names & {"Exception", "BaseException"})


def _answers(node: ast.ExceptHandler) -> bool:
    return any(
        isinstance(item, ast.Raise)
        or (isinstance(item, ast.Attribute) and item.attr == "exception")
        for item in ast.walk(node)
    )


def skip_reasons() -> Iterator[Offence]:
    """A skipped test gives its reason."""
    for source in sources("tests"):
        called = {id(node.func) for node in source.nodes if isinstance(node, ast.Call)}
        for node in source.nodes:
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in {"pytest.mark.skip", "pytest.mark.skipif"} and id(node) not in called:
                yield Offence("skip-reasons", source.path, node.lineno, name)
            if isinstance(node, ast.Call) and not _has_reason(node):
                yield Offence("skip-reasons", source.path, node.lineno, ast.unparse(node)[:70])


def _has_reason(node: ast.Call) -> bool:
    name = ast.unparse(node.func) if isinstance(node.func, ast.Attribute) else ""
    given = {keyword.arg for keyword in node.keywords}
    if name in {"pytest.mark.skip", "pytest.mark.skipif", "pytest.importorskip"}:
        return "reason" in given or (
            name.endswith("skip") and len(node.args) == 1 and "mark" in name
        )
    return name != "pytest.skip" or bool(node.args) or "reason" in given


def import_effects() -> Iterator[Offence]:
    """Importing a module changes nothing: no path, no foreign module, no setting of the process."""
    for source in sources("sentryfw"):
        for statement in _at_import(source.tree.body):
            for node in ast.walk(statement):
                text = ast.unparse(node)[:70] if isinstance(node, (ast.Call, ast.stmt)) else ""
                if isinstance(node, ast.Call) and EFFECTS.match(ast.unparse(node.func)):
                    yield Offence("import-effects", source.path, node.lineno, text)
                if isinstance(node, (ast.Assign, ast.Delete)) and any(
                    re.match(
                        r"sys\.(?:modules|path)|os\.environ|\w+\.__path__", ast.unparse(target)
                    )
                    for target in node.targets
                ):
                    yield Offence("import-effects", source.path, node.lineno, text)


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        inner = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
        if any(inner):
            for part in inner:
                yield from _at_import(part)
        else:
            yield statement


def effects_of(module: str) -> list[str]:
    """Import a module into this (fresh) interpreter and return what that changed, in words."""
    before = {name: id(loaded) for name, loaded in sys.modules.items()}
    thresholds, frozen, interval = (
        gc.get_threshold(),
        gc.get_freeze_count(),
        sys.getswitchinterval(),
    )
    hooks, finders = list(sys.path_hooks), list(sys.meta_path)
    path = list(sys.path)
    importlib.import_module(module)
    changed = [
        f"sys.modules[{name!r}] is {loaded!r}"
        for name, loaded in sys.modules.items()
        if id(loaded) != before.get(name) and (name in before or _is_planted(name, loaded))
    ]
    changed += [f"sys.modules[{name!r}] is gone" for name in before.keys() - sys.modules.keys()]
    if thresholds != gc.get_threshold() or frozen != gc.get_freeze_count():
        changed.append("the garbage collector")
    if interval != sys.getswitchinterval():
        changed.append("the switch interval")
    if (hooks, finders, path) != (list(sys.path_hooks), list(sys.meta_path), list(sys.path)):
        changed.append("sys.path, sys.path_hooks or sys.meta_path")
    for name, loaded in list(sys.modules.items()):
        if name.partition(".")[0] == "sentryfw" and len(getattr(loaded, "__path__", ())) > 1:
            changed.append(f"{name}.__path__")
    return changed


def _is_planted(name: str, loaded: object) -> bool:
    """Return whether an entry of sys.modules takes the place of a module that could be found."""
    if getattr(loaded, "__spec__", None) is not None:
        return False
    parent, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", []) if parent else None
    return PathFinder.find_spec(name, path) is not None
