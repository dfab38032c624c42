"""install, confirm, uninstall: the options; tests/setup has the effects."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import app
from sentryfw.cli.commands import install
from sentryfw.errors import NotFound, UsageError
from sentryfw.setup.install import Preview

Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of what changes the machine, in place of the changes."""
    found: Calls = []
    monkeypatch.setattr(install, "Table", lambda: None)
    shown = Preview("table inet sentryfw\n", ["It would add a table.", "word " * 30])
    monkeypatch.setattr(install, "preview", lambda *_, **_more: shown)
    for owner, name in (
        (install, "run_install"), (install, "run_uninstall"), (install.trials, "begin"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, lambda *_, _name=name, **more: found.append((_name, more)))
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "sentryfw.toml"
    names = ("state", "runtime", "log")
    path.write_text("[paths]\n" + "".join(f'{name} = "{tmp_path / name}"\n' for name in names))
    return str(path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["install"], ("run_install", {"service": True})),
        (["install", "--no-service"], ("run_install", {"service": False})),
        (["install", "--trial", "5m"], ("begin", {"with_service": True})),
        (["install", "--trial", "5m", "--no-service"], ("begin", {"with_service": False})),
        (["uninstall"], ("run_uninstall", {"purge": False})),
        (["uninstall", "--purge"], ("run_uninstall", {"purge": True})),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_option_reaches_its_function(
    calls: Calls, config: str, words: list[str], expected: tuple[str, dict[str, bool]]
) -> None:
    done = CliRunner().invoke(app, [*words, "-c", config], catch_exceptions=False)
    assert done.exit_code == 0
    assert calls == [expected]


def test_a_dry_run_prints_the_script_and_changes_nothing(calls: Calls, config: str) -> None:
    done = CliRunner().invoke(app, ["install", "--dry-run", "-c", config])
    assert done.stdout == "table inet sentryfw\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "It would add a table."
    assert max(map(len, lines)) <= 80
    assert calls == []


def test_a_trial_of_no_duration_is_a_usage_error(calls: Calls, config: str) -> None:
    done = CliRunner().invoke(app, ["install", "--trial", "soon", "-c", config])
    assert isinstance(done.exception, UsageError)
    assert calls == []


def test_without_a_trial_confirm_finds_nothing(config: str) -> None:
    done = CliRunner().invoke(app, ["confirm", "-c", config])
    assert isinstance(done.exception, NotFound)
