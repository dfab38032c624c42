"""The compiled engine is made of today's sources, or it is removed; the wheel takes it along."""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import compile_engine
import pytest
import wheel_hook
from compile_engine import CompileError
from hatchling.builders.wheel import WheelBuilder

ROOT: Final = compile_engine.ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package, its compiled engine and the digest of that."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sentryfw", tmp_path / "sentryfw", ignore=ignored)
    digest = tmp_path / compile_engine.DIGEST
    digest.parent.mkdir(parents=True)
    shutil.copy(ROOT / compile_engine.DIGEST, digest)
    return tmp_path


def change(path: Path) -> None:
    path.write_text(f"{path.read_text()}# changed\n")


def test_the_compiled_engine_is_made_of_these_sources() -> None:
    assert compile_engine.is_fresh(), "make setup, or: python packaging/compile_engine.py"


@pytest.mark.parametrize("source", ["engine/track.py", "netfilter/schema.py", "netlink/message.py"])
def test_a_changed_source_makes_the_compiled_engine_stale(tree: Path, source: str) -> None:
    assert compile_engine.is_fresh(tree)
    change(tree / "sentryfw" / source)
    assert not compile_engine.is_fresh(tree)


def test_a_module_that_the_engine_does_not_import_leaves_it_fresh(tree: Path) -> None:
    change(tree / "sentryfw/cli/app.py")
    assert compile_engine.is_fresh(tree)


def test_a_missing_extension_makes_the_compiled_engine_stale(tree: Path) -> None:
    compile_engine.extensions(tree)[0].unlink()
    assert not compile_engine.is_fresh(tree)


def test_a_fresh_engine_is_not_compiled_again(tree: Path) -> None:
    source, digest = tree / "sentryfw/engine/track.py", tree / compile_engine.DIGEST
    before = [path.stat().st_mtime_ns for path in compile_engine.extensions(tree)]
    os.utime(source)
    compile_engine.compile_engine(tree)
    assert [path.stat().st_mtime_ns for path in compile_engine.extensions(tree)] == before
    assert digest.stat().st_mtime_ns >= source.stat().st_mtime_ns, "make is content"


@pytest.mark.slow
def test_a_stale_engine_is_removed_where_no_new_one_can_be_compiled(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(tree / "sentryfw/engine/track.py")
    monkeypatch.setenv("CC", "/nonexistent/cc")
    with pytest.raises(CompileError, match="mypyc: "):
        compile_engine.compile_engine(tree)
    assert compile_engine.extensions(tree) == []
    assert not (tree / compile_engine.DIGEST).exists()


def built(root: Path, version: str) -> dict[str, Any]:
    """Return what the hook makes of a wheel's build data."""
    data: dict[str, Any] = {"pure_python": True, "infer_tag": False, "force_include": {}}
    hook: Any = wheel_hook.CompiledEngine(str(root), {}, None, None, "", "wheel")
    hook.initialize(version, data)
    return data


PURE: Final = {"pure_python": True, "infer_tag": False, "force_include": {}}


def test_a_wheel_has_the_compiled_engine_beside_its_sources(tree: Path) -> None:
    data = built(tree, "standard")
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    places = set(data["force_include"].values())
    assert len(places) == len(compile_engine.ALL_MODULES) + len(compile_engine.GROUPS)
    assert {Path(place).parent.as_posix() for place in places} == {
        "sentryfw/engine",
        "sentryfw/engine/correlate",
        "sentryfw/netfilter",
        "sentryfw/tools/replay",
    }


def test_extensions_are_in_a_wheel_by_the_hook_alone(tree: Path) -> None:
    """Debian's build backend does not read .gitignore, and its package for every architecture is
    built in the tree in which the engine was compiled."""
    assert compile_engine.extensions(tree)
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(ROOT / "rulesets", tree / "rulesets")
    assert not (tree / ".gitignore").exists()
    names = [file.relative_path for file in WheelBuilder(str(tree)).recurse_included_files()]
    assert "sentryfw/engine/track.py" in names
    assert [name for name in names if name.endswith(".so")] == []


def test_a_wheel_is_pure_where_the_engine_is_stale(tree: Path) -> None:
    change(tree / "sentryfw/engine/track.py")
    assert built(tree, "standard") == PURE


def test_a_wheel_is_pure_on_demand(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRYFW_ENGINE", "plain")
    assert built(tree, "standard") == PURE


def test_an_editable_install_is_pure(tree: Path) -> None:
    assert built(tree, "editable") == PURE


@pytest.mark.package
def test_the_same_sources_make_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    made = []
    for name in ("one", "another/deeper"):
        root = tmp_path / name
        shutil.copytree(
            ROOT / "sentryfw", root / "sentryfw", ignore=shutil.ignore_patterns("*.so", "*.pyc")
        )
        compile_engine.compile_engine(root)
        made.append([path.read_bytes() for path in compile_engine.extensions(root)])
    assert made[0] == made[1]
    assert not any(str(tmp_path).encode() in data for data in made[0])
