"""The process that checks a configuration."""

import subprocess
import sys
from typing import Any

import pytest

from sentryfw.config import files
from sentryfw.config.plain import process
from sentryfw.errors import SentryError

NOTHING = files.only(b"", "nowhere")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/bin/sh", "-c", "cat >/dev/null; echo broken >&2; exit 3"], "configuration: broken"),
        (["/bin/sh", "-c", "cat >/dev/null; exit 3"], "configuration: 3"),
        (["/nowhere/python"], "No such file"),
        (["/bin/sleep", "60"], "timed out"),
    ],
)
def test_a_child_that_fails_is_an_error(
    command: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "COMMAND", command)
    monkeypatch.setattr(process, "TIMEOUT_S", 1.0)
    with pytest.raises(SentryError, match=reason):
        process.validated(NOTHING)


@pytest.mark.parametrize(("set_", "given"), [(None, "__all__"), ("", "")])
def test_the_child_searches_for_plugins_if_the_operator_wants_it(
    set_: str | None, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, env: dict[str, str], **__: object) -> Any:
        assert env == {"PATH": env["PATH"], process.PLUGINS: given}
        return subprocess.CompletedProcess([], 1, b"", b"seen")

    monkeypatch.setattr(subprocess, "run", run)
    if set_ is None:
        monkeypatch.delenv(process.PLUGINS, raising=False)
    else:
        monkeypatch.setenv(process.PLUGINS, set_)
    with pytest.raises(SentryError, match="seen"):
        process.validated(NOTHING)


def test_an_answer_of_another_version_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package was installed since the daemon's start: its classes may differ from ours."""
    script = (
        "import pickle, sys; sys.stdin.buffer.read();"
        " pickle.dump(('0.0.1', b'not ours'), sys.stdout.buffer)"
    )
    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-I", "-c", script])
    with pytest.raises(SentryError, match=r"0\.0\.1 is installed: restart"):
        process.validated(NOTHING)
