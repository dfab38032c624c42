""".ci/run: a failure of tests fails it; where the stock kernel's tests cannot run, it warns."""

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

RUN: Final = Path(__file__).resolve().parents[2] / ".ci" / "run"
SKIPPED: Final = "SKIPPED [4] tests/stock_kernel/test_stock_kernel.py:34: missing: a kernel"


def run(tmp_path: Path, *, make: str = "", pytest_: str = "", seconds: int = 0) -> tuple[int, str]:
    """Run it with shell scripts in place of make and pytest; return its exit code and stderr.

    `seconds`: what the shell takes for the time that the run has taken when it starts.
    """
    scripts = {"bin/make": make, ".venv/bin/pytest": pytest_, ".ci/run": RUN.read_text()}
    for name, text in scripts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    path_ = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path_, "SECONDS": str(seconds)}
    done = subprocess.run(
        [tmp_path / ".ci/run"], env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_all_pass_without_a_warning(tmp_path: Path) -> None:
    assert run(tmp_path, pytest_="echo 4 passed") == (0, "")


@pytest.mark.parametrize("target", ["test", "check", "test-web"])
def test_a_failed_target_fails_it(tmp_path: Path, target: str) -> None:
    assert run(tmp_path, make=f'[ "$1" != {target} ] || exit 2')[0] == 2


def test_pages_without_cockpit_are_a_warning_with_its_reason(tmp_path: Path) -> None:
    make = '[ "$1" != apt-web ] || exit 2; [ "$1" != test-web ] || exit 3'
    code, said = run(tmp_path, make=make)
    assert code == 0
    assert said.startswith("WARNING: the tests of the pages cannot run here: ")


@pytest.mark.parametrize("code", [1, 2, 3, 5])
def test_a_failure_on_the_stock_kernel_fails_it(tmp_path: Path, code: int) -> None:
    assert run(tmp_path, pytest_=f"echo '1 failed'; exit {code}") == (code, "")


@pytest.mark.parametrize(
    ("scripts", "why"),
    [
        ({"make": '[ "$1" != setup ] || exit 2'}, "cannot be installed"),
        ({"pytest_": "exit 124"}, "the emulation did not end within"),
        ({"pytest_": "exit 1", "seconds": 3300}, "no time is left"),
        ({"pytest_": f"echo '{SKIPPED}'"}, "missing: a kernel"),
    ],
    ids=["no package", "too slow", "no time", "skipped"],
)
def test_what_cannot_run_is_a_warning_with_its_reason(
    tmp_path: Path, scripts: dict[str, Any], why: str
) -> None:
    code, said = run(tmp_path, **scripts)
    assert code == 0
    assert said.startswith("WARNING: the tests on the stock kernels cannot run here: ")
    assert why in said
