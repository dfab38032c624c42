"""A reload: all of another configuration or none of it, on parts that are fakes."""

import asyncio
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw import config as sentryfw_config
from sentryfw.config.model import Config
from sentryfw.daemon import reload
from sentryfw.daemon.reload import HELPER, RESTART, build, differing, fixed
from sentryfw.engine.engine import Engine
from sentryfw.errors import ConfigError, NotInstalled, SentryError
from sentryfw.host.protected import Protected, index_of

Call = tuple[object, ...]
NETWORK: Final = ip_network("192.0.2.0/24")
FILE: Final = """\
[paths]
state = "{0}"
runtime = "{0}/run"
log = "{0}/log"
"""


class Running:
    """The parts of a running daemon, and the calls that a reload makes to them."""

    def __init__(self, home: Path, text: str = "") -> None:
        self.calls: list[Call] = []
        self.file = home / "sentryfw.toml"
        self.home = home
        self.write(text)
        self.config = sentryfw_config.load(self.file)
        self.failing: set[str] = set()
        self.protected: list[Protected] = []
        self.parts: Any = SimpleNamespace(
            config=self.config,
            divert="queue",
            recorder=SimpleNamespace(learnt=None, reaction=None),
            decoys=SimpleNamespace(replace=self._step("decoys")),
            guard=SimpleNamespace(
                reinstall=self._step("reinstall", "xt"),
                replace_never_block=self._step("never_block", True),
            ),
            engine=Engine(self.config.horizons(), self.config.policy(index_of([]))),
            packet_path=SimpleNamespace(protect=None),
        )
        self.metrics: Any = SimpleNamespace(replace=self._step("metrics"))

    def write(self, text: str) -> None:
        self.file.write_text(FILE.format(self.home) + text)

    def _step(self, name: str, result: object = None) -> Any:
        async def step(wanted: Any, *_: object) -> object:
            self.calls.append((name, wanted))
            if name in self.failing:
                self.failing.remove(name)  # undoing it succeeds
                raise SentryError(f"{name} failed")
            return result

        return step

    def names(self) -> list[object]:
        return [name for name, *_ in self.calls]

    def reload(self, text: str) -> reload.Reloaded:
        self.write(text)
        self.calls.clear()
        return asyncio.run(build(self.parts, self.metrics, self.file))


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    made = Running(tmp_path)
    monkeypatch.setattr(reload, "collect_protected", lambda _: (made.protected, []))
    return made


def test_an_unchanged_configuration_changes_no_part(running: Running) -> None:
    new = running.reload("")
    assert new.changed == []
    assert (new.responder, new.captures, new.divert) == (None, None, "queue")
    assert running.names() == ["decoys"]  # which compare for themselves


def test_what_only_the_engine_reads_leaves_the_table_alone(running: Running) -> None:
    new = running.reload("[detect]\ntrigger = 7\n")
    assert new.changed == ["detect.trigger"]
    assert new.config.detect.trigger == 7
    assert running.names() == ["decoys"]


def test_listed_ports_make_the_table_again(running: Running) -> None:
    new = running.reload("[watch]\nlisted_tcp = [8080]\n")
    assert running.names() == ["decoys", "reinstall"]
    assert new.divert == "xt"


@pytest.mark.root
def test_other_reactions_are_new_parts(running: Running) -> None:
    new = running.reload('[respond.command]\nargv = ["/bin/true"]\n')
    assert new.responder is not None
    assert new.responder.is_needed


def test_another_number_of_packets_is_a_new_memory_of_them(running: Running) -> None:
    new = running.reload("[evidence]\npackets = 2\n")
    assert new.captures is not None
    assert new.captures.store is not None


def test_new_never_block_sources_replace_the_sets_only(running: Running) -> None:
    running.protected = [Protected(NETWORK, "by hand")]
    new = running.reload("")
    assert running.calls[1:] == [("never_block", index_of([NETWORK]))]
    assert new.protected.networks == index_of([NETWORK])


def test_an_uninstalled_table_refuses_new_never_block_sources(running: Running) -> None:
    running.parts.guard.replace_never_block = running._step("never_block", result=False)
    running.protected = [Protected(NETWORK, "by hand")]
    with pytest.raises(NotInstalled, match="sentryfw install"):
        running.reload("")


CHANGE: Final = (
    '[watch]\nlisted_tcp = [8080]\n[metrics]\nlisten = "127.0.0.1:9577"\n[decoy]\ntcp = [23]\n'
)


@pytest.mark.parametrize(
    ("failing", "undone"),
    [
        ("decoys", ["decoys"]),
        ("metrics", ["metrics", "decoys"]),
        ("reinstall", ["metrics", "decoys"]),
    ],
)
def test_a_step_that_fails_undoes_those_before_it(
    running: Running, failing: str, undone: list[str]
) -> None:
    running.failing.add(failing)
    old = running.config
    with pytest.raises(SentryError, match=f"{failing} failed"):
        running.reload(CHANGE)
    at = running.names().index(failing)
    assert running.names()[at + 1 :] == undone
    values = {"metrics": old.metrics, "decoys": old.decoy}
    assert running.calls[at + 1 :] == [(name, values[name]) for name in undone]
    assert running.parts.config is old


def test_a_file_with_faults_touches_no_part(running: Running) -> None:
    with pytest.raises(ConfigError, match=r"detect\.trigger"):
        running.reload("[detect]\ntrigger = 0\n")
    assert running.calls == []


def test_a_key_that_needs_a_restart_is_named_with_its_file(running: Running) -> None:
    with pytest.raises(ConfigError) as caught:
        running.reload("[queue]\nnumber = 7\n")
    assert caught.value.faults == [f"queue.number {RESTART}"]
    assert caught.value.files == [str(running.file)]
    assert running.calls == []


@pytest.mark.parametrize(
    ("changes", "is_root", "faults"),
    [
        ({"respond": {"command": {"argv": ["/bin/true"]}}}, True, {}),
        ({"respond": {"command": {"argv": ["/bin/true"]}}}, False,
         {"respond.command.argv": HELPER}),
        ({"queue": {"max_len": 64}}, False, {"queue.max_len": RESTART}),
        ({"watch": {"inside": ["lan0"]}}, True, {}),
    ],
    ids=["root", "helper", "queue", "inside"],
)  # fmt: skip
def test_the_keys_that_a_running_daemon_cannot_change(
    changes: dict[str, Any], *, is_root: bool, faults: dict[str, str]
) -> None:
    assert fixed(Config(), Config.model_validate(changes), is_root=is_root) == faults


def test_differing_names_each_key_once() -> None:
    wanted = Config.model_validate({"detect": {"trigger": 5}, "watch": {"listed_tcp": [80]}})
    assert differing(Config(), Config()) == []
    assert sorted(differing(Config(), wanted)) == ["detect.trigger", "watch.listed_tcp"]
