"""Each rule finds an offence that is planted for it, and passes a text without one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import places
import prose
import pytest
import rules
import shape
import sources

Plant = Callable[[dict[str, str]], Path]

ROOT: Final = sources.ROOT
MODULE: Final = "sentryfw/guard/repair.py"
TEST: Final = "tests/guard/test_repair.py"
SCHEMA: Final = "sentryfw/netfilter/schema.py"
METHODS: Final = "".join(f"    def m{n}(self) -> None:\n        pass\n" for n in range(21))
FIELDS: Final = "".join(f"        self.f{n} = {n}\n" for n in range(16))
POINT: Final = "class Point:\n    def __init__(self, a, b, c, d, e, f, g) -> None:\n        pass\n"

CASES: Final[list[tuple[str, str, dict[str, str], str]]] = [
    ("module-lines", "long", {MODULE: "x = 1\n" * 351}, "351 lines"),
    ("function-lines", "long", {MODULE: "def f():\n" + "    x = 1\n" * 45}, "f: 46 lines"),
    ("class-sizes", "lines", {MODULE: "class A:\n" + "    x = 1\n" * 250}, "A: 251 lines"),
    ("class-sizes", "methods", {MODULE: f"class A:\n{METHODS}"}, "A: 21 methods"),
    ("class-sizes", "attributes", {MODULE: f"class A:\n    def f(self):\n{FIELDS}"},
     "A: 16 instance attributes"),
    ("folders", "files", {f"sentryfw/guard/m{n}.py": "" for n in range(19)}, "19 files"),
    ("folders", "top", {f"sentryfw/m{n}.py": "" for n in range(6)}, "6 files at the top level"),
    ("folders", "top folders", {f"sentryfw/f{n}/m.py": "" for n in range(17)},
     "18 folders at the top level"),
    ("class-names", "twice", {MODULE: "class A: ...", SCHEMA: "class A: ..."},
     f"A is also in {MODULE}"),
    ("mirror", "no test", {MODULE: ""}, "has no test file"),
    ("mirror", "no module", {MODULE: "", TEST: "", "tests/guard/test_other.py": ""},
     "tests no module of sentryfw/guard"),
    ("positional", "values", {MODULE: f"{POINT}\nPoint(1, 2, 3, 4, 5, 6, 7)\n"},
     "Point: 7 positional values"),
    ("positional", "starred", {MODULE: f"{POINT}\nPoint(*values)\n"},
     "Point: * positional values"),
    ("docstring-opening", "relative clause", {MODULE: '"""What is repaired."""'},
     "What is repaired."),
    ("words", "docstring", {MODULE: '"""Report it to somebody."""'}, "'somebody'"),
    ("words", "comment", {MODULE: "x = 1  # told before\n"}, "'told'"),
    ("words", "message", {MODULE: 'print("this is no set")\n'}, "'is no'"),
    ("words", "test name", {TEST: "def test_nobody_is_blocked(): ..."}, "'nobody'"),
    ("words", "ruleset", {"rulesets/judge.nft": "# whatever comes\n"}, "'whatever'"),
    ("constant-units", "number", {MODULE: "PATIENCE = 2.0\n"}, "PATIENCE = 2.0"),
    ("config-name", "parameter", {MODULE: "def f(settings): ...\n"}, "settings"),
    ("config-name", "alias", {MODULE: "from sentryfw import config as configuration\n"},
     "configuration"),
    ("sql-place", "query", {MODULE: 'q = "SELECT a FROM blocks"\n'}, "SELECT a FROM blocks"),
    ("netlink-place", "number", {MODULE: "NFT_MSG_NEWSET = 9\n"}, "NFT_MSG_NEWSET"),
    ("set-names", "literal", {SCHEMA: 'BLOCK = "block4"\n', MODULE: 'x = "block4"\n'}, "block4"),
    ("interpreter-flags", "list", {MODULE: 'x = [sys.executable, "-m", "json"]\n'},
     "sys.executable without -I or -P"),
    ("broad-except", "silent", {MODULE: "try:\n    f()\nexcept Exception:\n    log.info('x')\n"},
     "neither log.exception nor raise"),
    ("broad-except", "bare", {MODULE: "try:\n    f()\nexcept:\n    pass\n"},
     "neither log.exception nor raise"),
    ("skip-reasons", "mark", {TEST: "@pytest.mark.skipif(True)\ndef test_a(): ...\n"},
     "pytest.mark.skipif(True)"),
    ("skip-reasons", "call", {TEST: "pytest.skip()\n"}, "pytest.skip()"),
    ("import-effects", "call", {MODULE: "import gc\ngc.freeze()\n"}, "gc.freeze()"),
    ("import-effects", "module", {MODULE: 'sys.modules["ssl"] = None\n'}, "sys.modules['ssl']"),
]  # fmt: skip

CLEAN: Final = {
    MODULE: '''"""Repair the table."""

import logging
import sys
from typing import Final

log: Final = logging.getLogger("sentryfw")
ANSWER_TIMEOUT_S: Final = 2.0
COMMAND: Final = [sys.executable, "-P", "-m", "json"]


class Repair:
    """Repairs; there is no other class of this name."""

    def __init__(self, config: object) -> None:
        self.config = config

    def run(self) -> None:
        """Repair the table, and log a failure."""
        try:
            print("the table is not there")
        except Exception:
            log.exception("repair")
''',
    TEST: 'import pytest\n\n\n@pytest.mark.skip(reason="a reason")\ndef test_a_repair(): ...\n',
    SCHEMA: '"""Names of the sets."""\n\nBLOCK_SET: str = "block4"\n',
    "tests/netfilter/test_schema.py": '"""Tests of the names."""\n',
    "sentryfw/record/ledger.py": 'QUERY = "SELECT a FROM blocks"\n',
    "tests/record/test_ledger.py": "",
    "sentryfw/netlink/nftables.py": "NFT_MSG_NEWSET = 9\n",
    "tests/netlink/test_nftables.py": "",
    "rulesets/judge.nft": "# drop the packet\ndrop\n",
}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """Make a tree of these files the one that the rules read."""

    def make(files: dict[str, str]) -> Path:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    schema = tmp_path / SCHEMA
    schema.parent.mkdir(parents=True)
    schema.touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for module in (sources, prose):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    forget()
    yield make
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Drop what was read of another tree."""
    for cached in (sources.sources, sources.house, shape._constructors):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("rule", "files", "text"),
    [pytest.param(rule, files, text, id=f"{rule}: {name}") for rule, name, files, text in CASES],
)
def test_a_rule_finds_a_planted_offence(
    plant: Plant, rule: str, files: dict[str, str], text: str
) -> None:
    plant(files)
    found = [item for item in rules.offences(rule) if text in item.text]
    assert found, rules.offences(rule)
    assert {item.rule for item in found} == {rule}


def test_every_rule_has_a_planted_offence() -> None:
    assert {rule for rule, _, _, _ in CASES} == rules.RULES.keys()


@pytest.mark.parametrize("rule", rules.RULES)
def test_a_rule_passes_a_tree_without_offences(plant: Plant, rule: str) -> None:
    plant(CLEAN)
    assert rules.offences(rule) == []


def test_an_exception_covers_its_place_only(plant: Plant) -> None:
    root = plant({MODULE: 'x = "SELECT a FROM t"\n', "sentryfw/guard/other.py": 'x = "PRAGMA a"\n'})
    table = f'[[tool.sentryfw.house.exceptions]]\nrule = "sql-place"\npath = "{MODULE}"\n'
    (root / "pyproject.toml").write_text(f'[tool.sentryfw.house]\n\n{table}reason = "a test"\n')
    forget()
    assert [item.path for item in rules.offences("sql-place")] == ["sentryfw/guard/other.py"]
    assert rules.unused_exceptions() == []
    (root / MODULE).write_text("x = 1\n")
    forget()
    assert rules.unused_exceptions() == [f"sql-place {MODULE}"]


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("import sys, types\nsys.modules['json.scanner'] = types.ModuleType('x')", "json.scanner"),
        ("import sys\nsys.path.append('/nonexistent')", "sys.path"),
        ("import gc\ngc.set_threshold(7)", "the garbage collector"),
        ("import sys\nsys.setswitchinterval(0.5)", "the switch interval"),
        ("x = 1", None),
    ],
    ids=["module", "path", "gc", "interval", "nothing"],
)
def test_an_effect_of_an_import_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, effect: str | None
) -> None:
    (tmp_path / "planted_module.py").write_text(text)
    interval, thresholds = sys.getswitchinterval(), places.gc.get_threshold()
    modules, path = dict(sys.modules), list(sys.path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *path])
    sys.modules.pop("json.scanner", None)
    try:
        found = places.effects_of("planted_module")
    finally:
        sys.setswitchinterval(interval)
        places.gc.set_threshold(*thresholds)
        sys.modules.clear()
        sys.modules.update(modules)
    assert bool(found) == (effect is not None), found
    assert effect is None or effect in found[0]
