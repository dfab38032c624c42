"""The configuration in place of a faulty one."""

from pathlib import Path
from typing import Any

import pytest

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.host import last_good
from sentryfw.query import working_config as module
from sentryfw.query.working_config import stored_config, working_config


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "sentryfw.toml"
    made.write_text(f'[paths]\nstate = "{tmp_path}/state"\nruntime = "{tmp_path}/run"\n')
    return made


def _break(place: Path) -> None:
    place.write_text(place.read_text() + "[detect\n")


def _answer(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    monkeypatch.setattr(module, "ask", lambda _path, _request: answer)


def test_a_configuration_without_a_fault_is_used_without_a_word(place: Path) -> None:
    said: list[str] = []
    assert working_config(place, said.append) == config.load(place)
    assert said == []


def test_the_daemons_own_is_first_but_neither_its_paths_nor_its_reactions(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's user could answer anything."""
    said: list[str] = []
    last_good.save(place, config.load_with_sources(place))
    good = config.load(place)
    _break(place)
    forged = Config.model_validate(
        {
            "detect": {"trigger": 7},
            "paths": {"state": "/etc"},
            "respond": {"hosts_deny": {"path": "/etc/shadow", "line": "{address}"}},
        }
    )
    _answer(monkeypatch, {"config": forged.model_dump(mode="json")})
    found = working_config(place, said.append)
    assert found.detect.trigger == 7
    assert (found.paths, found.respond) == (good.paths, good.respond)
    [line] = said
    assert str(place) in line
    assert line.endswith("the running daemon's configuration is used")


@pytest.mark.parametrize("answer", [{}, {"config": {"no": "such"}}, {"config": 3}])
def test_an_answer_without_a_configuration_counts_as_none(
    place: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    last_good.save(place, config.load_with_sources(place))
    good = config.load(place)
    _break(place)
    _answer(monkeypatch, answer)
    assert working_config(place, lambda _: None) == good


def test_without_daemon_and_copy_the_paths_of_the_faulty_file_count(place: Path) -> None:
    wanted = Config(paths=config.load(place).paths)
    _break(place)
    said: list[str] = []
    assert working_config(place, said.append) == wanted == stored_config(place)
    assert "the defaults are used" in said[0]


def test_many_faults_are_one_line(place: Path) -> None:
    place.write_text("x = 1\ny = 2\nz = 3\n")
    said: list[str] = []
    working_config(place, said.append)
    [line] = said
    assert "(and 2 more: `sentryfw check`)" in line
    assert "\n" not in line
