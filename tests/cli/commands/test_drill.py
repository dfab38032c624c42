"""The drill as an operator runs it: it holds, it reports when it does not, it leaves nothing."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import pytest

from sentryfw.cli.commands.drill import faults, summary
from sentryfw.tools.drill import scene
from support import screenshot
from support.box import Box, environment
from support.processes import Process, below
from support.waiting import wait_for

pytestmark = pytest.mark.netns

KEYS = [
    "scan", "family", "source", "sent", "recognised", "probes", "targets",
    "targets_due", "answers_after", "block_ms",
    "listed_port_closed", "own_connection", "back_after_unblock", "ok",
]  # fmt: skip
SCANS = ["-sS", "-sT", "-sF", "-sN", "-sX", "-sM", "-sA", "-sU"]
RECOGNISED = ["syn", "syn", "fin", "null", "xmas", "maimon", "ack", "udp"]
BURST = 11
"""nmap -sT begins with ten connections at once. Where the first one hits the listed port, its
source is a partner until it resets that connection, and the other nine are probes by then."""
DEFERRED = 2
"""nmap -sS sends its SYN to the listed port up to twice; deferred, it counts half a target."""
QUICKLY = 3.0
"""Seconds between a signal and the drill's end."""


@pytest.fixture
def one_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fin scan alone; what is not blocked is waited for 3 s, not 10."""
    monkeypatch.setattr(scene, "ANSWER_TIMEOUT_S", 3.0)
    run = importlib.import_module("sentryfw.tools.drill.run")  # the package has a function `run`
    fin = [attack for attack in run.ATTACKS if attack.option == "-sF"]
    monkeypatch.setattr(run, "ATTACKS", fin)


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
        trigger = box.settings.detect.trigger
        most = {"-sT": BURST, "-sS": trigger + DEFERRED}.get(str(attack["scan"]), trigger + 1)
        assert int(str(attack["probes"])) <= most, attack
        assert int(str(attack["sent"])) >= 100, attack


@pytest.mark.usefixtures("one_attack")
def test_the_drill_leaves_the_host_as_it_was(box: Box) -> None:
    links = box.namespace.ip("link")
    files = box.files()
    done = box.sentryfw("drill", "--forge")
    assert done.returncode == 0, done.stderr
    assert box.namespace.ip("link") == links
    assert (box.ruleset(), box.files()) == ("", files)


@pytest.mark.usefixtures("one_attack")
def test_forged_attacks_hold_and_are_shown_tab_separated(box: Box) -> None:
    done = box.sentryfw("drill", "--forge")
    assert done.returncode == 0, done.stderr
    assert "by forged packets" in done.stderr
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert header == KEYS
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("-sF", "ipv4", "yes"),
        ("-sF", "ipv6", "yes"),
    ]


@pytest.mark.usefixtures("one_attack")
def test_without_nmap_the_attacks_are_forged(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nmap" else name)
    done = box.sentryfw("drill")
    assert done.returncode == 0, done.stderr
    assert "by forged packets" in done.stderr


@pytest.mark.usefixtures("one_attack")
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
    done = box.sentryfw("drill", "--forge", "--json")
    assert done.returncode == 1, done.stdout
    attacks = check_report(done.stdout)
    assert [attack["family"] for attack in attacks if not attack["ok"]] == failing
    for attack in attacks:
        if attack["family"] in failing:
            assert (attack["recognised"], attack["block_ms"]) == ("-", None)
            assert attack["listed_port_closed"] is False
    assert f"{len(failing)} of 2 scans were not stopped as they have to be:" in done.stderr
    for family in failing:
        assert (
            f"FIN scan over {family.replace('ip', 'IP')} (-sF): its source was not" in done.stderr
        )


@pytest.mark.usefixtures("one_attack")
def test_the_drill_blocks_where_the_operator_only_observes(box: Box) -> None:
    box.configure('[detect]\nmode = "observe"')
    assert box.sentryfw("drill", "--forge").returncode == 0


# --- what a first-timer reads in a terminal of 80 columns


@pytest.mark.usefixtures("one_attack")
def test_on_a_terminal_each_scan_is_a_row_as_it_ends(box: Box) -> None:
    code, shown = box.on_terminal("drill", "--forge")
    assert code == 0, shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "your network is not touched" in " ".join(lines)
    assert " #  scan     nmap  over  blocked after" in shown
    for number, version in (("1", "4"), ("2", "6")):
        row = rf" {number}  FIN      -sF   IPv{version}  \d of 100 probes +\d+\.\d ms +none +ok"
        assert len([line for line in lines if re.fullmatch(row, line)]) == 1, shown
    assert re.search(r"2 scans, each stopped after \d probes?; nothing answered", shown)


@pytest.mark.usefixtures("one_attack")
def test_on_a_terminal_a_scan_that_was_not_stopped_is_named(box: Box) -> None:
    box.configure('[never_block]\naddresses = ["198.18.0.0/15"]')
    code, shown = box.on_terminal("drill", "--forge")
    assert code == 1
    assert max(map(len, shown.splitlines())) <= 80
    assert " 1  FIN      -sF   IPv4  NOT BLOCKED, 100 probes\n" in shown
    assert "1 of 2 scans were not stopped" in shown
    assert "[never_block]" in shown


@pytest.mark.nmap
@pytest.mark.slow
def test_the_picture_in_the_readme_is_what_a_drill_shows(box: Box) -> None:
    """SENTRYFW_DOCS=write makes docs/drill.svg of this run."""
    code, shown = box.on_terminal("drill")
    assert code == 0, shown
    shown = shown.replace(str(box.config), "/etc/sentryfw/sentryfw.toml")
    made = screenshot.picture(shown, "sentryfw drill")
    place = screenshot.DOCS / "drill.svg"
    if os.environ.get("SENTRYFW_DOCS") == "write":
        place.write_text(made)
    kept = place.read_text()
    assert screenshot.shape(screenshot.text_in(kept)) == screenshot.shape(screenshot.text_in(made))
    assert len(screenshot.text_in(kept)) > 20
    assert "http" not in kept.replace("http://www.w3.org/2000/svg", "")


ENDED = {
    "scan": "-sF", "family": "ipv4", "source": "198.18.1.2", "sent": 100, "recognised": "fin",
    "probes": 2, "targets": 2, "targets_due": 2, "answers_after": 0, "block_ms": 0.71,
    "listed_port_closed": True, "own_connection": True, "back_after_unblock": True, "ok": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("probes", "text"),
    [((2, 3), "after 2 to 3 probes"), ((2, 2), "after 2 probes"), ((1, 1), "after 1 probe;")],
)
def test_the_summary_of_scans_that_were_stopped(probes: tuple[int, ...], text: str) -> None:
    made = summary([{**ENDED, "probes": count} for count in probes])
    assert f"2 scans, each stopped {text}" in made
    assert "nothing answered afterwards" in made


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"block_ms": None, "recognised": "-"}, "its source was not blocked"),
        ({"recognised": "syn,null"}, "it was recognised as syn,null"),
        ({"targets": 1}, "1 target until the block, not 2"),
        ({"targets": 4}, "4 targets until the block, not 2"),
        ({"answers_after": 1}, "1 answer after the block"),
        ({"answers_after": 3}, "3 answers after the block"),
        ({"listed_port_closed": False}, "port 80 answered the blocked source"),
        ({"own_connection": False}, "the host could not connect to the blocked source"),
        ({"back_after_unblock": False}, "port 80 did not answer after `sentryfw unblock`"),
    ],
    ids=str,
)
def test_each_broken_promise_has_its_sentence(change: dict[str, object], text: str) -> None:
    bad = {**ENDED, **change, "ok": False}
    made = summary([ENDED, bad])
    assert "1 of 2 scans" in made
    assert text in " ".join(made.split())
    assert faults(ENDED) == []
    assert len(faults(bad)) == 1


# --- what is left of a drill that was ended


class Running(NamedTuple):
    """A drill in the middle of its attacks, and everything it made."""

    drill: Popen[str]
    made: list[Process]
    networks: set[str]
    directory: Path


@pytest.fixture
def running(box: Box, hangup_ends: None) -> Iterator[Running]:
    drill = box.namespace.popen(box.launch("-c", box.config, "drill", "--forge"), env=environment())
    assert drill.stderr is not None
    for line in drill.stderr:
        if line.startswith("[ 3/16]"):
            break
    made = below(drill.pid)
    [daemon] = [process for process in made if "sentryfw.daemon.main" in process.words]
    [directory] = re.findall(r"/run/sentryfw-drill-\w+", " ".join(daemon.words))
    networks = {process.network for process in made} - {Process(drill.pid, "").network, ""}
    yield Running(drill, made, networks, Path(directory))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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
    assert running.drill.returncode == 128 + number, said
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


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(6))
def test_a_drill_ends_at_a_random_moment(box: Box, turn: int) -> None:
    """From its start, over the daemon's, to its second attack; tests/tools/drill/test_supervisor.py
    interrupts a stand-in of it a hundred times."""
    chance = random.Random(turn)
    mounts = nsfs_mounts()
    drill = box.namespace.popen(box.launch("-c", box.config, "drill", "--forge"), env=environment())
    assert drill.stderr is not None
    drill.stderr.readline()  # the configuration
    time.sleep(chance.uniform(0.0, 3.0))
    made = below(drill.pid)
    drill.send_signal(chance.choice((signal.SIGINT, signal.SIGTERM)))
    started = time.monotonic()
    _, said = drill.communicate(timeout=60)
    assert drill.returncode != 0, said
    assert time.monotonic() - started < QUICKLY
    assert "Traceback" not in said
    assert [process for process in made if process.runs()] == []
    assert list(Path("/run").glob(f"sentryfw-drill-{drill.pid}_*")) == []
    assert nsfs_mounts() <= mounts


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
