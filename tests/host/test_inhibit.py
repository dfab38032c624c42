"""The files that keep the daemon from starting."""

import os
from pathlib import Path

import pytest

from sentryfw.errors import NotInstalled, SentryError
from sentryfw.host import inhibit
from sentryfw.host.inhibit import TRIAL, Trial


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_without_the_files_the_daemon_starts(state: Path, runtime: Path) -> None:
    inhibit.check(state, runtime)
    assert inhibit.trial(state) is None


def test_a_panic_in_either_directory_lasts_until_install(state: Path, runtime: Path) -> None:
    for directories in ([state], [runtime], [state, runtime]):
        inhibit.declare_panic(directories)
        with pytest.raises(SentryError, match="`sentryfw panic` has stopped it"):
            inhibit.check(state, runtime)
        inhibit.clear(state, runtime)
        inhibit.check(state, runtime)


def test_a_directory_that_cannot_be_written_does_not_stop_a_panic(
    tmp_path: Path, state: Path, runtime: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    inhibit.declare_panic([file / "below", runtime])
    with pytest.raises(SentryError):
        inhibit.check(state, runtime)


def test_a_trial_runs_until_its_deadline(state: Path, runtime: Path) -> None:
    begun = inhibit.begin_trial(state, 60.0)
    assert inhibit.trial(state) == begun
    assert 50 < begun.left <= 60
    inhibit.check(state, runtime)
    inhibit.end_trial(state)
    assert inhibit.trial(state) is None


def test_an_ended_trial_keeps_the_daemon_from_starting(state: Path, runtime: Path) -> None:
    inhibit.begin_trial(state, -1.0)
    with pytest.raises(SentryError, match="not confirmed in time"):
        inhibit.check(state, runtime)


def test_a_reboot_ends_a_trial(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    inhibit.begin_trial(state, 60.0)
    monkeypatch.setenv(inhibit.BOOT_ID_GIVEN, "another")
    found = inhibit.trial(state)
    assert found is not None
    assert found.left == 0.0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"deadline": "x", "boot": "", "token": ""}'])
def test_an_unreadable_trial_has_ended(state: Path, text: str) -> None:
    state.mkdir()
    (state / TRIAL).write_text(text)
    assert inhibit.trial(state) == Trial(0.0, "", "")


def test_a_symlink_is_not_followed(tmp_path: Path, state: Path) -> None:
    state.mkdir()
    target = tmp_path / "target"
    (state / TRIAL).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        inhibit.begin_trial(state, 60.0)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "nested"])
def test_what_another_user_put_in_the_place_of_a_trial_has_ended(tmp_path: Path, kind: str) -> None:
    """It is neither waited for nor followed."""
    place = tmp_path / inhibit.TRIAL
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        target = tmp_path / "target"
        inhibit.begin_trial(target, 60)
        place.symlink_to(target / inhibit.TRIAL)
    elif kind == "directory":
        place.mkdir()
    else:
        place.write_text("[" * 4000)
    found = inhibit.trial(tmp_path)
    assert found is not None
    assert not found.left


def test_a_trial_that_goes_back_lets_a_daemon_start_by_that_configuration(
    state: Path, runtime: Path
) -> None:
    inhibit.begin_trial(state, -1.0, goes_back=True)
    assert inhibit.goes_back(state)
    inhibit.check(state, runtime, goes_back=True)
    with pytest.raises(NotInstalled, match="not confirmed in time"):
        inhibit.check(state, runtime)
    inhibit.begin_trial(state, 60.0, goes_back=True)
    assert not inhibit.goes_back(state)


def test_the_time_of_a_panic_is_known_while_it_is_on(state: Path, runtime: Path) -> None:
    assert inhibit.panic_at(state, runtime) is None
    inhibit.declare_panic([runtime])
    assert inhibit.panic_at(state, runtime) == (runtime / inhibit.PANIC).stat().st_mtime
