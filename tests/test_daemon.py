"""The daemon as a process: what it imports, what it weighs, how it starts and ends."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.netns import Namespace
from support.box import BIN, NOBODY, Box, environment

HEAVY = {"typer", "click", "rich", "scapy", "nftables"}
"""For people and for forging; libnftables' work is done in a child."""
MAX_RSS_KIB = 40 * 1024


@pytest.fixture
def box() -> Iterator[Box]:
    with Box() as made:
        yield made


@pytest.mark.netns
def test_the_module_graph_has_neither_typer_nor_rich_nor_scapy(namespace: Namespace) -> None:
    code = "import sys, sentryfw.daemon; print(*sys.modules)"
    done = namespace.run(sys.executable, "-P", "-c", code)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "sentryfw" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.netns
def test_idle_it_holds_at_most_40_mib(box: Box) -> None:
    daemon = box.start_daemon()
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    _, size, unit = line.split()
    assert unit == "kB"
    assert int(size) <= MAX_RSS_KIB


@pytest.mark.netns
def test_a_second_daemon_names_the_first_and_ends_in_1(box: Box) -> None:
    first = box.start_daemon()
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 1
    assert f"pid {first.pid}" in done.stderr
    assert first.poll() is None


@pytest.mark.netns
def test_a_wrong_configuration_ends_in_78(box: Box) -> None:
    box.configure("[detect]\ntrigger = 0\nwindoww = 1")
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 78
    assert "detect.trigger" in done.stderr
    assert "did you mean 'window'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.netns
def test_the_configuration_is_named_by_the_environment(box: Box) -> None:
    box.configure("nonsense = 1")
    env = environment({"SENTRYFW_CONFIG": str(box.config)})
    done = box.namespace.run(BIN / "sentryfwd", env=env)
    assert done.returncode == 78
    assert str(box.config) in done.stderr


@pytest.mark.netns
def test_without_root_it_ends_in_4(box: Box) -> None:
    done = box.namespace.run(*NOBODY, BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


@pytest.mark.netns
def test_a_foreign_table_ends_in_1_and_stays(box: Box) -> None:
    box.nft("add table inet sentryfw; add chain inet sentryfw theirs")
    before = box.ruleset()
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 1
    assert "did not make" in done.stderr
    assert "Traceback" not in done.stderr
    assert box.ruleset() == before
