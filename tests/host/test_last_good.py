"""The copy of the last good configuration: written whole, trusted only if it is root's."""

import os
import pickle
from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, SentryError
from sentryfw.host import last_good

SETTINGS = '[detect]\ntrigger = 4\n[watch]\nlisted_tcp = ["22", "8000-8010"]\n'
LISTED = '[[watch.listed_forward]]\nto = ["192.0.2.1", "2001:db8::/64"]\ntcp = ["443"]\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with a drop-in, saved as the last good one."""
    made = tmp_path / "sentryfw.toml"
    made.write_text(SETTINGS)
    (tmp_path / "conf.d").mkdir()
    more = '[watch]\nforward = true\ninterfaces = ["wan0"]\n' + LISTED
    (tmp_path / "conf.d" / "50.toml").write_text(more)
    last_good.save(made, config.load_with_sources(made))
    return made


def test_the_copy_is_the_whole_configuration(place: Path) -> None:
    assert last_good.load(place) == config.load(place)


def test_the_copy_survives_a_fault_in_the_files(place: Path) -> None:
    good = config.load(place)
    place.write_text("[detect\n")
    assert last_good.load(place) == good
    assert last_good.place_of(place) == place.parent / "last-good" / "sentryfw.toml"


def test_without_a_copy_there_is_none(tmp_path: Path) -> None:
    assert last_good.load(tmp_path / "sentryfw.toml") is None


def test_a_missing_directory_of_configuration_has_nothing_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case of `install --no-service` by a wheel, before a configuration was written."""
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "sentryfw" / "sentryfw.toml")
    last_good.save(None, config.load_with_sources(None))
    assert list(tmp_path.iterdir()) == []


def test_without_a_configuration_an_older_copy_does_not_stay(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.unlink()
    (place.parent / "conf.d" / "50.toml").unlink()
    monkeypatch.setattr(config, "DEFAULT_PATH", place)
    last_good.save(None, config.load_with_sources(None))
    assert last_good.load(None) == config.load(None)


@pytest.mark.parametrize("damage", ["group", "others", "directory", "link", "truncated"])
def test_a_copy_that_another_user_could_have_written_is_ignored(place: Path, damage: str) -> None:
    copy = last_good.place_of(place)
    if damage == "link":
        copy.rename(copy.with_name("real"))
        copy.symlink_to("real")
    elif damage == "truncated":
        copy.write_text("detect.trigger = ")
    else:
        where = copy.parent if damage == "directory" else copy
        where.chmod(where.stat().st_mode | (0o020 if damage == "group" else 0o002))
    assert last_good.load(place) is None


@pytest.mark.root
def test_a_copy_of_another_user_is_ignored(place: Path) -> None:
    os.chown(last_good.place_of(place), 65534, -1)
    assert last_good.load(place) is None


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o640, 0o640), (0o600, 0o600)])
def test_who_cannot_read_the_files_cannot_read_the_copy(
    place: Path, mode: int, expected: int
) -> None:
    place.chmod(mode)
    last_good.save(place, config.load_with_sources(place))
    assert last_good.place_of(place).stat().st_mode & 0o777 == expected


def test_a_copy_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "sentryfw.toml"
    place.write_text(SETTINGS)
    (tmp_path / "last-good").write_text("in the way")
    with pytest.raises(SentryError, match="no copy of the configuration is kept"):
        last_good.save(place, config.load_with_sources(place))


def test_checked_values_are_of_the_files_as_they_are(place: Path) -> None:
    assert last_good.checked(place) is not None
    drop_in = place.parent / "conf.d" / "50.toml"
    before = drop_in.read_text()
    drop_in.write_text(before.replace("wan0", "wan1"))
    assert last_good.checked(place) is None
    drop_in.write_text(before)
    assert last_good.checked(place) is not None
    place.write_text("[detect\n")
    with pytest.raises(ConfigError):
        last_good.checked(place)


@pytest.mark.parametrize("damage", ["group", "others", "directory", "link", "truncated", "missing"])
def test_checked_values_that_another_user_could_have_written_are_ignored(
    place: Path, damage: str
) -> None:
    values = last_good.checked_values_of(place)
    if damage == "link":
        values.rename(values.with_name("real"))
        values.symlink_to("real")
    elif damage == "truncated":
        values.write_bytes(values.read_bytes()[:100])
    elif damage == "missing":
        values.unlink()
    else:
        where = values.parent if damage == "directory" else values
        where.chmod(where.stat().st_mode | (0o020 if damage == "group" else 0o002))
    assert last_good.checked(place) is None


@pytest.mark.root
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_checked_values_of_another_user_are_not_unpickled(place: Path, kind: str) -> None:
    values = last_good.checked_values_of(place)
    ran = place.parent / "ran"
    values.write_bytes(pickle.dumps(_Writes(str(ran))))
    os.chown(values if kind == "file" else values.parent, 65534, -1)
    assert last_good.checked(place) is None
    assert not ran.exists()


class _Writes:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o600, 0o600)])
def test_who_cannot_read_the_files_cannot_read_the_checked_values(
    place: Path, mode: int, expected: int
) -> None:
    place.chmod(mode)
    last_good.save(place, config.load_with_sources(place))
    assert last_good.checked_values_of(place).stat().st_mode & 0o777 == expected


def test_deleting_removes_files_and_directory(place: Path) -> None:
    copy = last_good.place_of(place)
    values = last_good.checked_values_of(place)
    assert last_good.delete(place) == [values, copy, copy.parent]
    assert last_good.delete(place) == []


def test_the_last_good_configuration_is_used_while_there_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sentryfw.toml"
    path.write_text("nonsense = [")
    with pytest.raises(ConfigError):
        last_good.usable(path)
    monkeypatch.setattr(last_good, "load", lambda _: Config())
    assert last_good.usable(path) == Config()
