"""config set and unset: the file, its readers, the daemon's answer, and what is restored."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sentryfw.cli.config_edit import change, complete_keys
from sentryfw.config.edit import Edited, place_of, with_key
from sentryfw.errors import ConfigError, NotRunning, SentryError
from support.fake_host import FakeHost


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "sentryfw.toml"
    path.write_text("")
    return path


def refuse(error: SentryError) -> Callable[[Edited], str]:
    def apply(_edited: Edited) -> str:
        raise error

    return apply


def trigger(main: Path, value: str) -> Callable[[], Edited]:
    return lambda: with_key(main, "detect.trigger", [value])


def test_the_file_is_written_and_applied(main: Path) -> None:
    lines = change(main, trigger(main, "4"), lambda _edited: "reloaded: detect.trigger")
    assert lines == [f"written to {place_of(main)}", "reloaded: detect.trigger"]
    assert "detect.trigger = 4\n" in place_of(main).read_text()
    assert [path.name for path in place_of(main).parent.iterdir()] == ["99-set.toml"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_who_reads_the_configuration_reads_the_file(main: Path, mode: int) -> None:
    main.chmod(mode)
    change(main, trigger(main, "4"), lambda _edited: "")
    assert stat.S_IMODE(place_of(main).stat().st_mode) == mode & 0o644


@pytest.mark.parametrize("before", [None, "5"])
def test_a_refused_change_leaves_the_file_as_it_was(main: Path, before: str | None) -> None:
    if before is not None:
        change(main, trigger(main, before), lambda _edited: "")
    old = place_of(main).read_bytes() if before else None
    with pytest.raises(SentryError, match=r"port 5278 is taken\nnothing was changed"):
        change(main, trigger(main, "4"), refuse(SentryError("port 5278 is taken")))
    assert (place_of(main).read_bytes() if place_of(main).exists() else None) == old


def test_without_a_daemon_it_is_written(main: Path) -> None:
    lines = change(main, trigger(main, "4"), refuse(NotRunning("not running")))
    assert "the daemon is not running" in lines[-1]
    assert place_of(main).exists()


def test_other_faults_are_reported_and_nothing_is_applied(main: Path) -> None:
    main.write_text("[detect]\ntrigger = 0\nwindow = 0\n")
    with pytest.raises(ConfigError, match=r"detect\.window(?s:.*)is written, but not in use"):
        change(main, trigger(main, "4"), refuse(AssertionError("applied")))  # type: ignore[arg-type]
    assert place_of(main).exists()


def test_a_link_is_replaced_and_not_followed(main: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("")
    place_of(main).parent.mkdir()
    place_of(main).symlink_to(other)
    with pytest.raises(SentryError, match=r"99-set\.toml: Too many levels"):
        change(main, trigger(main, "4"), lambda _edited: "")
    assert other.read_text() == ""


def test_keys_are_completed_with_their_defaults() -> None:
    assert complete_keys("detect.win") == [("detect.window", "default '5m'")]
    assert ("respond.mail.sender", "default None") in complete_keys("respond.mail.")
    assert complete_keys("detekt") == []


def test_a_key_is_set_and_unset_on_the_command_line(bare_host: FakeHost) -> None:
    done = bare_host.sentryfw("config", "set", "watch.listed_tcp", "22", "6000-6010")
    place = place_of(bare_host.config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        f"watch.listed_tcp = ['22', '6000-6010'] ({place})", f"written to {place}",
    ]  # fmt: skip
    assert bare_host.settings.watch.listed_tcp == ((22, 22), (6000, 6010))
    done = bare_host.sentryfw("config", "unset", "watch.listed_tcp", "--no-reload")
    assert done.stdout.splitlines() == [
        "watch.listed_tcp = [] (default)", f"written to {place}",
        "not reloaded: `sentryfw reload` or a restart applies it",
    ]  # fmt: skip
    assert bare_host.sentryfw("config", "unset", "watch.listed_tcp").returncode == 7


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("detect.triger", "3"), 78), (("detect.trigger", "-1"), 78), (("detect",), 2),
        (("a b", "1"), 2), ((), 2), (("detect.trigger", ""), 78),
    ],
)  # fmt: skip
def test_a_fault_changes_nothing(bare_host: FakeHost, words: tuple[str, ...], code: int) -> None:
    done = bare_host.sentryfw("config", "set", *words)
    assert done.returncode == code
    assert done.stderr
    assert not place_of(bare_host.config).exists()


def test_a_user_without_rights_is_refused(bare_host: FakeHost) -> None:
    done = bare_host.sentryfw("config", "set", "detect.trigger", "4", as_root=False)
    assert done.returncode == 4
    assert "run it with sudo" in done.stderr


def test_the_shell_asks_for_keys(bare_host: FakeHost) -> None:
    env = {
        "_SENTRYFW_COMPLETE": "complete_bash", "COMP_CWORD": "3",
        "COMP_WORDS": "sentryfw config set detect.mo",
    }  # fmt: skip
    done = bare_host.run("config", env=env)
    assert done.stdout.split() == ["plain,detect.mode"]


def test_the_schema_is_printed(bare_host: FakeHost) -> None:
    done = bare_host.sentryfw("config", "schema")
    assert '"$schema": "https://json-schema.org/draft/2020-12/schema"' in done.stdout
