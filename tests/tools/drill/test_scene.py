"""The stage: two hosts, the operator's configuration, the real daemon, nothing left behind."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.tools.drill import scene
from sentryfw.tools.drill.attacks import LISTED_PORT
from sentryfw.tools.drill.scene import OWN_PORT, VICTIM4, VICTIM6, Scene, to_toml
from support.processes import below

SETTINGS = [
    pytest.param(b"", id="defaults"),
    pytest.param(
        b'[watch]\ninterfaces = ["eth0", "ppp*"]\nlisted_tcp = [22, "6000-6010"]', id="watch"
    ),
    pytest.param(
        b'[detect]\ntrigger = 7\nwindow = 0.00001\nslow_window = "1w"\nmode = "observe"\n'
        b"triggers = { fin = 2, maimon = 64 }",
        id="detect",
    ),
    pytest.param(b"[detect]\ntriggers = {}", id="no trigger named"),
    pytest.param(
        b'[block]\ntimeouts = ["90s", 1e7]\nunlisted = "accept"\nper_minute = 1', id="block"
    ),
    pytest.param(
        b'[never_block]\naddresses = ["192.0.2.0/24", "2001:db8::1"]\ngateways = false',
        id="never_block",
    ),
    pytest.param(
        b'[watch]\ninterfaces = ["wan0"]\ninside = ["lan*"]\nforward = true\n'
        b'[[watch.listed_forward]]\nto = ["192.0.2.0/24", "2001:db8::/48"]\n'
        b'tcp = [22, "6000-6010"]\nprotocols = ["icmp", 47]',
        id="forward",
    ),
    pytest.param(
        b'[[zone]]\nname = "guest"\ninterfaces = ["wg*"]\ntriggers = { fin = 3 }\n'
        b'window = "90s"\nlisted_tcp = ["80-90"]',
        id="zone",
    ),
    pytest.param(b"[queue]\nnumber = 0\nmax_len = 64", id="queue"),
    pytest.param(
        '[paths]\nstate = "/a b/\\"q\\"/\\\\/é"\nlog = "/\\t"'.encode(), id="paths with quotes"
    ),
]


@pytest.mark.parametrize("toml", SETTINGS)
def test_a_configuration_comes_back_from_its_toml(toml: bytes) -> None:
    config = parse(toml, "test")
    assert parse(to_toml(config).encode(), "test") == config


@pytest.fixture
def stage() -> Iterator[Scene]:
    with Scene(Config()) as made:
        yield made


@pytest.mark.netns
def test_the_stage_is_set(stage: Scene) -> None:
    done = stage.command("status", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pid"] == stage.daemon_pid
    for number, family, victim in ((1, 4, VICTIM4), (2, 6, VICTIM6)):
        source = stage.take_address(number, family)
        assert stage.reaches(stage.attacker, source, victim, LISTED_PORT)
        assert not stage.reaches(stage.attacker, source, victim, LISTED_PORT + 1, scene.SILENCE_S)
        assert stage.reaches(stage.victim, victim, source, OWN_PORT)


@pytest.mark.netns
def test_a_block_is_found_in_the_ledger_and_not_waited_for_longer(stage: Scene) -> None:
    assert stage.command("block", "203.0.113.7").returncode == 0
    entry = stage.block_of("203.0.113.7", time.time())
    assert entry is not None
    assert entry.reason == "blocked by hand"
    assert stage.block_of("203.0.113.8", time.time() - scene.ANSWER_TIMEOUT_S) is None


@pytest.mark.netns
@pytest.mark.parametrize(
    ("toml", "interface"),
    [
        pytest.param(b"", "veth0", id="all are watched"),
        pytest.param(b'[watch]\ninterfaces = ["eth7"]', "eth7", id="one by name"),
        pytest.param(b'[watch]\ninterfaces = ["ppp*", "eth0"]', "ppp0", id="a pattern"),
        pytest.param(b'[watch]\ninside = ["veth*"]', "outside0", id="not inside"),
    ],
)
def test_the_victims_interface_is_a_watched_one(toml: bytes, interface: str) -> None:
    with Scene(parse(toml, "test")) as made:
        links = json.loads(made.victim.ip("-j", "link"))
        assert {link["ifname"] for link in links} == {"lo", interface}


@pytest.mark.netns
def test_the_operators_directories_are_not_the_drills() -> None:
    operators = Config()
    with Scene(operators) as made:
        paths = made.config.paths
        assert {paths.state.parent, paths.runtime.parent, paths.log.parent} == {made.directory}
        assert made.config.model_copy(update={"paths": operators.paths}) == operators


@pytest.mark.netns
def test_the_operators_metrics_are_not_the_drills(tmp_path: Path) -> None:
    file = tmp_path / "x.prom"
    with Scene(parse(f'[metrics]\ntextfile = "{file}"\nevery = 1'.encode(), "test")) as made:
        assert not made.config.metrics.wanted
    assert not file.exists()


@pytest.mark.netns
def test_it_blocks_even_if_the_operator_observes() -> None:
    with Scene(parse(b'[detect]\nmode = "observe"', "test")) as made:
        assert made.config.detect.mode == "block"
        assert parse(made.config_path.read_bytes(), "test").detect.mode == "block"


@pytest.mark.netns
def test_no_reaction_of_the_operator_runs() -> None:
    toml = b"""
        [block]
        tcp = "command"
        udp = "observe"
        [respond.command]
        argv = ["/usr/bin/touch", "/nonexistent"]
        [respond.hosts_deny]
        enabled = true
    """
    with Scene(parse(toml, "test")) as made:
        started = parse(made.config_path.read_bytes(), "test")
    assert started.respond == Config().respond
    assert (started.block.tcp, started.block.udp) == ("block", "block")


@pytest.mark.netns
def test_close_leaves_nothing_behind() -> None:
    with Scene(Config()) as made:
        directory = made.directory
        processes = below(made.victim.pid)
        pids = {made.victim.pid, made.attacker.pid, made.daemon_pid}
        assert directory.is_dir()
    assert not directory.exists()
    assert [process for process in processes if process.runs()] == []
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.netns
def test_a_daemon_that_does_not_start_is_quoted_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho $5 >&2\necho it is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(
        SentryError, match=r"start: it ended with code 1: (?s:.*)it is broken"
    ) as raised:
        Scene(Config())
    directory = Path(str(raised.value).split()[-4]).parent
    assert directory.name.startswith("sentryfw-drill-")
    assert not directory.exists()


@pytest.mark.netns
def test_a_daemon_that_does_not_start_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "START_TIMEOUT_S", 0.0)
    with pytest.raises(SentryError, match="did not start: it does not answer within 0 s"):
        Scene(Config())


@pytest.mark.netns
def test_a_daemon_that_is_killed_at_its_start_is_an_error_that_names_the_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(SentryError, match=r"did not start: it ended by signal 9$"):
        Scene(Config())
