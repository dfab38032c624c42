"""The core of the namespace suite on stock distribution kernels, emulated.

They have CONFIG_NFT_QUEUE, so the queue statement is used: the kernel of this machine's Debian, and
that of Debian 13 with its own nft and Python, in a root that make_root.py makes. `make
test-stock-kernel` installs what this needs; without it the tests are skipped.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import make_root
import pytest
import suites

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
VNG: Final = ROOT / ".venv-stock" / "bin" / "vng"
MARK: Final = "STOCK-KERNEL-RESULT "
BOOTED: Final = "STOCK-KERNEL-BOOTED"
PATIENCE: Final = 900

pytestmark = [pytest.mark.stock_kernel]


class Emulated(NamedTuple):
    """A kernel, and the root file system that it is booted with."""

    root: Path
    place: Path
    """Place of the sources in the root."""
    python: str


MACHINES: Final = {
    "own": Emulated(Path("/"), ROOT, sys.executable),
    "trixie": Emulated(
        make_root.ROOT, Path("/") / suites.PLACE, f"/{suites.PLACE}/.venv/bin/python"
    ),
}


@pytest.fixture(scope="module", params=MACHINES)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    machine = MACHINES[request.param]
    kernels = sorted((machine.root / "boot").glob("vmlinuz-*-amd64"))
    missing = [
        what
        for what, there in (
            (f"a kernel in {machine.root / 'boot'}", bool(kernels)),
            ("qemu-system-x86_64", shutil.which("qemu-system-x86_64") is not None),
            (str(VNG), VNG.exists()),
        )
        if not there
    ]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}; `make test-stock-kernel` installs them")
    output = _emulate(machine, kernels[-1])
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


def _emulate(machine: Emulated, kernel: Path) -> str:
    """Return the console's output. Skip where the emulation is too slow."""
    inside = machine.place / "tests" / "stock_kernel" / "inside.py"
    command = [
        str(VNG), "--run", str(kernel), "--root", str(machine.root), "--disable-kvm",
        "--disable-microvm", "--force-9p", "--memory", "2G", "--cpus", "2", "--qemu-opts=-cpu max",
        "--exec", f"cd {machine.place} && PYTHONPATH=. {machine.python} {inside} 2>&1",
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
