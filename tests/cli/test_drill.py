"""The drill as an operator runs it: it holds, it says when it does not, it leaves nothing."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import pytest

from support.box import Box, environment
from support.processes import Process, below
from support.waiting import wait_for

pytestmark = pytest.mark.netns

KEYS = [
    "scan", "family", "source", "sent", "recognised", "probes", "answers_after", "block_ms",
    "listed_port_closed", "own_connection", "back_after_unblock", "ok",
]  # fmt: skip
SCANS = ["-sS", "-sT", "-sF", "-sN", "-sX", "-sM", "-sA", "-sU"]
RECOGNISED = ["syn", "syn", "fin", "null", "xmas", "maimon", "ack", "udp"]
ONE_ATTACK = """
import importlib
importlib.import_module("sentryfw.drill.scene").PATIENCE = 3.0
run = importlib.import_module("sentryfw.drill.run")
run.ATTACKS = [attack for attack in run.ATTACKS if attack.option == "-sF"]
"""
"""The fin scan alone; what is not blocked is waited for 3 s, not 10."""
BURST = 11
"""nmap -sT begins with ten connections at once. Where the first one hits the listed port, its
source is a partner until it resets that connection, and the other nine are probes by then."""
QUICKLY = 3.0
"""Seconds between a signal and the drill's end."""


def check_report(stdout: str) -> list[dict[str, object]]:
    said = json.loads(stdout)
    assert list(said) == ["ok", "attacks"]
    attacks: list[dict[str, object]] = said["attacks"]
    assert [list(attack) for attack in attacks] == [KEYS] * len(attacks)
    assert said["ok"] == all(attack["ok"] for attack in attacks)
    return attacks


@pytest.mark.nmap
def test_every_scan_of_nmap_ends_at_its_first_probes(box: Box) -> None:
    done = box.sentryfw("drill", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by nmap" in done.stderr
    attacks = check_report(done.stdout)
    pairs = [(attack["scan"], attack["family"]) for attack in attacks]
    assert pairs == [(scan, family) for family in ("ipv4", "ipv6") for scan in SCANS]
    for attack, kind in zip(attacks, RECOGNISED * 2, strict=True):
        assert attack["ok"] is True, attack
        assert kind in str(attack["recognised"]).split(","), attack
        assert attack["answers_after"] == 0, attack
        most = BURST if attack["scan"] == "-sT" else box.settings.detect.trigger + 1
        assert int(str(attack["probes"])) <= most, attack
        assert int(str(attack["sent"])) >= 100, attack


def test_the_drill_leaves_the_host_as_it_was(box: Box) -> None:
    links = box.namespace.ip("link")
    files = box.files()
    done = box.sentryfw("drill", "--forge", prelude=ONE_ATTACK)
    assert done.returncode == 0, done.stderr
    assert box.namespace.ip("link") == links
    assert (box.ruleset(), box.files()) == ("", files)


def test_forged_attacks_hold_and_are_shown_tab_separated(box: Box) -> None:
    done = box.sentryfw("drill", "--forge", prelude=ONE_ATTACK)
    assert done.returncode == 0, done.stderr
    assert "by scapy" in done.stderr
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == KEYS
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("-sF", "ipv4", "yes"),
        ("-sF", "ipv6", "yes"),
    ]


def test_without_nmap_the_attacks_are_forged(box: Box) -> None:
    no_nmap = 'import shutil\nshutil.which = lambda name: None if name == "nmap" else name\n'
    done = box.sentryfw("drill", prelude=no_nmap + ONE_ATTACK)
    assert done.returncode == 0, done.stderr
    assert "by scapy" in done.stderr


@pytest.mark.parametrize(
    ("settings", "failing"),
    [
        pytest.param(
            '[never_block]\naddresses = ["198.18.0.0/15"]', ["ipv4"], id="ipv4 never blocked"
        ),
        pytest.param(
            '[never_block]\naddresses = ["198.18.0.0/15", "2001:2::/48"]', ["ipv4", "ipv6"],
            id="nobody blocked",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_hold_ends_in_1(
    box: Box, settings: str, failing: list[str]
) -> None:
    box.configure(settings)
    done = box.sentryfw("drill", "--forge", "--json", prelude=ONE_ATTACK)
    assert done.returncode == 1, done.stdout
    attacks = check_report(done.stdout)
    assert [attack["family"] for attack in attacks if not attack["ok"]] == failing
    for attack in attacks:
        if attack["family"] in failing:
            assert (attack["recognised"], attack["block_ms"]) == ("-", None)
            assert attack["listed_port_closed"] is False
    assert f"{len(failing)} of 2 attacks did not end well" in done.stderr


def test_the_drill_blocks_where_the_operator_only_observes(box: Box) -> None:
    box.configure('[detect]\nmode = "observe"')
    assert box.sentryfw("drill", "--forge", prelude=ONE_ATTACK).returncode == 0


# --- what is left of a drill that was ended


class Running(NamedTuple):
    """A drill in the middle of its attacks, and everything it made."""

    drill: Popen[str]
    made: list[Process]
    networks: set[str]
    directory: Path


@pytest.fixture
def running(box: Box) -> Iterator[Running]:
    drill = box.namespace.popen(box.launch("-c", box.config, "drill", "--forge"), env=environment())
    assert drill.stderr is not None
    for line in drill.stderr:
        if line.startswith("[ 3/16]"):
            break
    made = below(drill.pid)
    [daemon] = [process for process in made if "sentryfw.daemon" in process.words]
    [directory] = re.findall(r"/run/sentryfw-drill-\w+", " ".join(daemon.words))
    networks = {process.network for process in made} - {Process(drill.pid, "").network, ""}
    yield Running(drill, made, networks, Path(directory))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_interrupted_drill_ends_quickly_and_leaves_nothing(
    running: Running, number: signal.Signals
) -> None:
    assert len(running.networks) == 2
    assert running.directory.is_dir()
    mounts = nsfs_mounts()
    started = time.monotonic()
    running.drill.send_signal(number)
    _, said = running.drill.communicate(timeout=60)
    took = time.monotonic() - started
    assert running.drill.returncode not in (0, None), said
    assert took < QUICKLY, f"{took:.1f} s"
    assert [process for process in running.made if process.runs()] == []
    assert not running.directory.exists()
    assert nsfs_mounts() <= mounts
    assert "Traceback" not in said


def test_signal_after_signal_still_leaves_nothing(running: Running) -> None:
    """An operator who presses Ctrl-C twice."""
    for _ in range(2):
        running.drill.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, said = running.drill.communicate(timeout=60)
    assert running.drill.returncode not in (0, None), said
    assert [process for process in running.made if process.runs()] == []
    assert not running.directory.exists()
    assert "Traceback" not in said


def test_a_killed_drill_leaves_no_process_and_so_no_namespace(running: Running) -> None:
    running.drill.kill()
    running.drill.wait()
    wait_for(
        lambda: not [process for process in running.made if process.runs()],
        "everything the drill started ends with it",
    )


def nsfs_mounts() -> set[str]:
    """Namespaces that live on by a mount."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if " nsfs " in line}
