"""Run pytest; what needs a quiet machine is run once more, alone, if it failed in the parallel run.

    python -P tests/support/alone.py [ARGUMENT of pytest ...]

Tests in namespaces, in a browser and beside other products wait for kernels, daemons and scanners;
on a machine whose two cores are shared, a deadline may pass. Everything else must pass at the first
go. A test that passed only alone is named in the output and in ALONE, which the Makefile prints at
its end.

See docs/decisions.md: once-more-alone.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ALONE: Final = ROOT / ".pytest_cache" / "passed-only-alone"
TIMING: Final = frozenset({"netns", "peers", "web"})
"""Markers of the tests that may be run once more."""
ANY: Final = "web or not web"
"""All markers: without it the tests of the pages are left out, as they are by default."""
MAX_AGAIN: Final = 5
"""More failures than this are a fault, not a flake."""


class Failures:
    """A plugin: the tests that failed, and whether each may be run once more."""

    def __init__(self) -> None:
        self.found: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found[report.nodeid] = bool(TIMING.intersection(report.keywords))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.found[report.nodeid] = False


def main(arguments: list[str]) -> int:
    """Run the tests, and return pytest's exit code: 0 also if the second run passed."""
    failures = Failures()
    code = int(pytest.main(arguments, plugins=[failures]))
    found = failures.found
    if code != pytest.ExitCode.TESTS_FAILED or not found:
        return code
    certain = sorted(name for name, again in found.items() if not again)
    if certain:
        return _refuse(code, f"not a matter of time: {certain[0]}")
    if len(found) > MAX_AGAIN:
        return _refuse(code, f"{len(found)} failures, more than {MAX_AGAIN}")
    _say(f"{len(found)} failed in the parallel run; once more, alone:", *found)
    again = subprocess.run([sys.executable, "-P", "-m", "pytest", "-m", ANY, *found], check=False)
    if again.returncode == 0:
        ALONE.parent.mkdir(exist_ok=True)
        with ALONE.open("a") as file:
            file.writelines(f"{name}\n" for name in found)
        _say("PASSED ONLY ALONE, look at them:", *found)
    return again.returncode


def _refuse(code: int, why: str) -> int:
    _say(f"nothing is run once more: {why}")
    return code


def _say(*lines: str) -> None:
    sys.stdout.flush()
    sys.stderr.write("".join(f"==== {line}\n" for line in lines))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
