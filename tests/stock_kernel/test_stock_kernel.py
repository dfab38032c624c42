"""The core of the namespace suite on stock distribution kernels, emulated.

They have CONFIG_NFT_QUEUE, so the queue statement is used: the kernel of this machine's Debian, and
that of Debian 13 with its own nft and Python, in a root that make_root.py makes. There the packaged
service runs under systemd, too, confined by its AppArmor profile, which this machine's kernel may
not have. `make test-stock-kernel` installs what this needs; without it the tests are skipped.
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
ENDED: Final = "STOCK-KERNEL-ENDED"
"""Printed when the script in the machine ends, whether it failed or not."""
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


WRITABLE: Final = ("/etc", "/srv", "/tmp", "/var")  # noqa: S108 - of the emulated machine
"""Directories that confined.py writes to; the host's stay as they are."""


@pytest.fixture(scope="module", params=MACHINES)
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    return _seen(MACHINES[request.param], "inside.py")


@pytest.fixture(scope="module")
def confined() -> dict[str, Any]:
    """The packaged service of Debian 13 under systemd, with AppArmor."""
    return _seen(MACHINES["trixie"], "confined.py", *(f"--overlay-rwdir={d}" for d in WRITABLE))


def _seen(machine: Emulated, script: str, *options: str) -> dict[str, Any]:
    """Return the result of a script in an emulated machine. Skip where there can be none."""
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
    output = _emulate(machine, kernels[-1], script, *options)
    if BOOTED in output and ENDED not in output:  # the machine broke down, not the script in it
        print(f"the emulated machine broke down, and is started again; it printed:\n{output}")
        output = _emulate(machine, kernels[-1], script, *options, "--verbose")  # with kernel's log
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


def _emulate(machine: Emulated, kernel: Path, script: str, *options: str) -> str:
    """Return the console's output. Skip where the emulation is too slow."""
    inside = machine.place / "tests" / "stock_kernel" / script
    command = [
        str(VNG), "--run", str(kernel), "--root", str(machine.root), "--disable-kvm",
        "--disable-microvm", "--force-9p", "--memory", "2G", "--cpus", "2", "--qemu-opts=-cpu max",
        *options, "--exec", f"cd {machine.place} && PYTHONPATH=. {machine.python} {inside} 2>&1",
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


# --- the packaged service, confined by AppArmor


def test_every_process_of_the_service_is_confined(confined: dict[str, Any]) -> None:
    alone, with_decoys = confined["confined"]
    assert set(alone.values()) == set(with_decoys.values()) == {"sentryfwd (enforce)"}
    assert len(with_decoys) > len(alone)


def test_the_confined_service_blocks_before_and_after_a_reload_and_a_restart(
    confined: dict[str, Any],
) -> None:
    scanners = {"198.18.0.2", "198.18.0.3", "198.18.0.4"}
    assert scanners <= confined["recorded"].keys()
    assert all("within the window" in reason for reason in confined["recorded"].values())
    assert confined["healed"]
    assert confined["kept"]


def test_the_confined_service_answers_as_a_decoy_and_records(confined: dict[str, Any]) -> None:
    assert "hello" in confined["visited"]
    assert confined["status"]["faults"] == {}
    assert confined["status"]["lost_records"] == 0


def test_the_profile_denies_nothing_that_the_daemon_needs(confined: dict[str, Any]) -> None:
    assert confined["denied"] == []


def test_the_profile_denies_what_a_daemon_that_was_taken_over_would_want(
    confined: dict[str, Any],
) -> None:
    """All of the attempts succeed as root without the profile, and one with it."""
    assert confined["allowed to root"] == confined["attempts"]
    assert confined["allowed to the profile"] == ["read the configuration"]
    assert any('name="/etc/shadow"' in line for line in confined["denied then"])
