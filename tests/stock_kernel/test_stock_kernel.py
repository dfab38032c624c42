"""The core of the namespace suite on a stock distribution kernel, emulated.

The kernel has CONFIG_NFT_QUEUE, so the queue statement is used. `make test-stock-kernel`
installs what this needs; without it the test is skipped.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VNG = ROOT / ".venv-stock" / "bin" / "vng"
MARK = "STOCK-KERNEL-RESULT "
BOOTED = "STOCK-KERNEL-BOOTED"
PATIENCE = 900

pytestmark = [pytest.mark.stock_kernel]


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    kernels = sorted(Path("/boot").glob("vmlinuz-*-amd64"))
    missing = [
        what
        for what, there in (
            ("a kernel in /boot", bool(kernels)),
            ("qemu-system-x86_64", shutil.which("qemu-system-x86_64") is not None),
            (str(VNG), VNG.exists()),
        )
        if not there
    ]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; `make test-stock-kernel` installs them")
    output = _emulate(kernels[-1])
    if BOOTED not in output:
        pytest.skip(f"the emulated machine did not boot here: {output[-300:]!r}")
    return _result(output)


def _result(output: str) -> dict[str, Any]:
    """Return the machine's result. Without one the test fails: a fault inside was printed."""
    for line in output.splitlines():
        _, mark, data = line.partition(MARK)
        if mark:
            found: dict[str, Any] = json.loads(data)
            return found
    pytest.fail(f"no result from the emulated machine:\n{output[-4000:]}")


def _emulate(kernel: Path) -> str:
    """Return the console's output. Skip where the emulation is too slow."""
    command = [
        str(VNG), "--run", str(kernel), "--disable-kvm", "--disable-microvm", "--force-9p",
        "--memory", "2G", "--cpus", "2", "--qemu-opts=-cpu max",
        "--exec", f"cd {ROOT} && PYTHONPATH={ROOT} {sys.executable} {HERE / 'inside.py'} 2>&1",
    ]  # fmt: skip
    path = f"{VNG.parent}:{os.environ['PATH']}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE,
            check=False, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"the emulation did not end within {PATIENCE} s on this machine")
    return done.stdout + done.stderr


def test_the_queue_statement_is_used(result: dict[str, Any]) -> None:
    assert result["divert"] == "queue"


def test_every_scan_is_recognised_and_blocked(result: dict[str, Any]) -> None:
    assert len(result["attacks"]) == 10
    assert [attack for attack in result["attacks"] if not attack["ok"]] == []


def test_a_flushed_ruleset_is_repaired(result: dict[str, Any]) -> None:
    assert result["healed"]


def test_uninstall_leaves_nothing(result: dict[str, Any]) -> None:
    assert result["uninstalled"]
