"""The second chance of a failed test: for tests in namespaces only, few of them, and loudly."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

RUNNER: Final = Path(__file__).resolve().parents[1] / "support" / "alone.py"
TESTS: Final = """
import os, pathlib, pytest
parallel = "PYTEST_XDIST_WORKER" in os.environ

@pytest.mark.netns
@pytest.mark.parametrize("n", range({flaky}))
def test_flaky(n):
    assert not parallel

@pytest.mark.peers
def test_lasting():
    assert not {lasting}

def test_pure():
    pathlib.Path({log!r}).open("a").write("ran\\n")
    assert not ({pure} and parallel)
"""
INI: Final = "[pytest]\nmarkers =\n    netns: x\n    peers: x\n"


def run(
    tmp_path: Path, *, flaky: int = 0, lasting: bool = False, pure: bool = False
) -> tuple[int, str]:
    """Run the runner on tests of a directory of their own; return its exit code and output."""
    runner = tmp_path / "tests" / "support" / "alone.py"
    runner.parent.mkdir(parents=True)
    runner.write_text(RUNNER.read_text())
    text = TESTS.format(flaky=flaky, lasting=lasting, pure=pure, log=str(tmp_path / "log"))
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(INI)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-P", runner, "-n", "1", "-q"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "log").read_text() == "ran\n"  # only failed tests are run once more
    return done.returncode, done.stderr


def test_a_run_without_a_failure_is_one_run(tmp_path: Path) -> None:
    assert run(tmp_path) == (0, "")


def test_few_tests_in_namespaces_pass_alone_and_are_named(tmp_path: Path) -> None:
    code, said = run(tmp_path, flaky=2)
    assert code == 0
    assert "PASSED ONLY ALONE" in said
    assert said.count("test_it.py::test_flaky[1]") == 2
    named = (tmp_path / ".pytest_cache" / "passed-only-alone").read_text()
    assert sorted(named.split()) == [f"test_it.py::test_flaky[{n}]" for n in range(2)]


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        pytest.param({"pure": True}, "not a matter of time: test_it.py::test_pure", id="pure"),
        pytest.param({"pure": True, "flaky": 1}, "nothing is run once more", id="also pure"),
        pytest.param({"flaky": 6}, "6 failures, more than 5", id="too many"),
        pytest.param({"lasting": True}, "once more, alone", id="fails alone as well"),
        pytest.param({"lasting": True, "flaky": 1}, "once more, alone", id="one fails alone"),
    ],
)
def test_a_fault_stays_a_fault(tmp_path: Path, faults: dict[str, int], why: str) -> None:
    code, said = run(tmp_path, **faults)
    assert code == 1
    assert why in said
    assert "PASSED ONLY ALONE" not in said
