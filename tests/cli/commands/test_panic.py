"""panic: the command; tests/setup/test_panic.py has the effects."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import app
from sentryfw.cli.commands import panic


def test_panic_does_not_load_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[detect")
    called: list[Path | None] = []
    monkeypatch.setattr(panic, "remove_everything", lambda path, _say: called.append(path))
    done = CliRunner().invoke(app, ["panic", "-c", str(broken)], catch_exceptions=False)
    assert done.exit_code == 0
    assert called == [broken]
