"""The place of a checkout: tests start its programs as other users."""

import shutil
import subprocess
from pathlib import Path

import pytest
from sources import ROOT

pytestmark = pytest.mark.root


def readable(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", folder, "readable"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_checkout_that_only_root_can_read_is_refused_before_the_tests(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    tmp_path.chmod(0o700)
    done = readable(tmp_path)
    assert done.returncode == 2
    assert f"who cannot read {tmp_path}: clone to /srv or /opt" in done.stderr


def test_this_checkout_can_be_read() -> None:
    done = readable(ROOT)
    assert done.returncode == 0, done.stderr
