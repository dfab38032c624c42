"""conf.d: the files, each over those before it, and the file of each value."""

from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.config import load, load_with_sources
from sentryfw.config.files import MAX_FILES, drop_ins, flatten, only
from sentryfw.config.model import TRIGGERS, Config
from sentryfw.errors import ConfigError, SentryError
from sentryfw.respond.helper import check_owner


def write(directory: Path, **files: str) -> Path:
    """sentryfw.toml (`main`) and conf.d/NAME.toml; the place of the first."""
    place = directory / "sentryfw.toml"
    for name, text in files.items():
        if name == "main":
            place.write_text(text)
        else:
            (directory / "conf.d").mkdir(exist_ok=True)
            (directory / "conf.d" / f"{name}.toml").write_text(text)
    return place


@pytest.mark.parametrize(
    ("files", "trigger", "window"),
    [
        pytest.param({"main": "[detect]\ntrigger = 4"}, 4, 300, id="without conf.d"),
        pytest.param(
            {"main": "[detect]\ntrigger = 4\nwindow = 60", "a": "[detect]\ntrigger = 5"}, 5, 60,
            id="key by key",
        ),
        pytest.param(
            {"main": "", "b": "[detect]\ntrigger = 7", "a": "[detect]\ntrigger = 6\nwindow = 9"},
            7, 9, id="in order of name",
        ),
        pytest.param(
            {"main": "detect = { trigger = 4 }", "a": "detect.window = 61"}, 4, 61, id="inline"
        ),
        pytest.param({"main": "[detect]\ntrigger = 4", "a": "[detect]"}, 4, 300, id="empty"),
        pytest.param({"main": "detect = 3", "a": "[detect]\ntrigger = 8"}, 8, 300, id="replaced"),
    ],
)  # fmt: skip
def test_a_later_file_overrides_an_earlier_one(
    tmp_path: Path, files: dict[str, str], trigger: int, window: float
) -> None:
    detect = load(write(tmp_path, **files)).detect
    assert (detect.trigger, detect.window) == (trigger, window)


def test_lists_are_replaced_and_not_joined(tmp_path: Path) -> None:
    place = write(tmp_path, main="[watch]\nlisted_tcp = [1, 2]", a="[watch]\nlisted_tcp = [3]")
    assert load(place).watch.listed_tcp == ((3, 3),)


def test_only_toml_files_that_are_not_hidden_are_read(tmp_path: Path) -> None:
    place = write(tmp_path, main="", a="")
    for name in ("b.toml~", ".c.toml", "d.conf", "e.toml.dpkg-old"):
        (tmp_path / "conf.d" / name).write_text("nonsense")
    assert drop_ins(place) == [tmp_path / "conf.d" / "a.toml"]
    assert load(place) == Config()


def test_at_the_default_place_conf_d_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", write(tmp_path, a="[detect]\ntrigger = 4"))
    assert load(None).detect.trigger == 4


def test_a_file_that_was_named_must_be_there_all_the_same(tmp_path: Path) -> None:
    place = write(tmp_path, a="[detect]\ntrigger = 4")
    with pytest.raises(ConfigError, match=r"sentryfw\.toml: no such file"):
        load(place)


def test_every_fault_names_its_own_file(tmp_path: Path) -> None:
    place = write(
        tmp_path,
        main='[detect]\ntrigger = 0\nwindow = "5m"\n[watch]\ntrap_tcp = [1]',
        a='[detect]\nwindow = "soon"\n[zzz]\na = 1',
        b='[watch]\nmode = "unlisted"',
    )
    with pytest.raises(ConfigError) as caught:
        load(place)
    found = dict(line.split(": ", 1) for line in reversed(str(caught.value).splitlines()))
    a, b = (str(tmp_path / "conf.d" / name) for name in ("a.toml", "b.toml"))
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"{place}: detect.trigger: ") for line in lines)
    assert any(line.startswith(f"{a}: detect.window: ") for line in lines)
    assert any(line.startswith(f"{a}: zzz: unknown key") for line in lines)
    assert any(line.startswith(f"{b}: watch: trap_tcp and trap_udp need") for line in lines)
    assert len(lines) == 4
    assert set(found) == {str(place), a, b}


def test_the_faults_of_all_files_that_are_not_toml_are_reported_at_once(tmp_path: Path) -> None:
    place = write(tmp_path, main="detect = [", a="caf\u00e9", b="[detect]", c="x = ")
    with pytest.raises(ConfigError) as caught:
        load(place)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(place), str(tmp_path / "conf.d" / "a.toml"), str(tmp_path / "conf.d" / "c.toml")
    ]  # fmt: skip
    assert all("not TOML" in line for line in lines)


def test_a_missing_command_is_reported_with_the_file_that_needs_it(tmp_path: Path) -> None:
    place = write(tmp_path, main="", a='[block]\ntcp = "command"')
    with pytest.raises(ConfigError, match=r"conf\.d/a\.toml: block\.tcp"):
        load(place)


def test_a_conf_d_that_is_not_a_directory_is_a_fault(tmp_path: Path) -> None:
    place = write(tmp_path, main="")
    (tmp_path / "conf.d").write_text("")
    with pytest.raises(ConfigError, match=r"conf\.d: Not a directory"):
        load(place)


def test_too_many_files_are_a_fault(tmp_path: Path) -> None:
    place = write(tmp_path, main="", **{f"f{n:04}": "" for n in range(MAX_FILES + 1)})
    with pytest.raises(ConfigError, match="more than 256 files"):
        load(place)


def test_each_value_has_the_file_that_set_it_last(tmp_path: Path) -> None:
    place = write(
        tmp_path,
        main="[detect]\ntrigger = 4\nwindow = 60\n[detect.triggers]\nnull = 1",
        a="[detect]\ntrigger = 5\n[detect.triggers]\nfin = 3",
    )
    loaded = load_with_sources(place)
    drop_in = str(tmp_path / "conf.d" / "a.toml")
    assert loaded.sources.files == (str(place), drop_in)
    assert loaded.config.detect.triggers == {**TRIGGERS, "null": 1, "fin": 3}
    for key, file in {
        "detect.trigger": drop_in, "detect.window": str(place), "detect.triggers.null": str(place),
        "detect.triggers.fin": drop_in, "detect": drop_in, "block.unlisted": None, "block": None,
    }.items():  # fmt: skip
        assert loaded.sources.origin(key.split(".")) == file, key


def test_a_table_in_place_of_a_value_takes_its_origin_too() -> None:
    sources = only(b"a = 1\nb = { c = 2 }", "x")
    assert dict(flatten(sources.table)) == {("a",): 1, ("b", "c"): 2}
    assert sources.origin(("a", "z")) == "x"


@pytest.mark.root
def test_commands_run_as_root_come_from_files_of_root_only(tmp_path: Path) -> None:
    place = write(tmp_path, main="", a="")
    drop_in = tmp_path / "conf.d" / "a.toml"
    check_owner(place)
    for path, mode in ((drop_in, 0o664), (tmp_path / "conf.d", 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(SentryError, match=f"{path}: owned by uid"):
            check_owner(place)
        path.chmod(before)
    place.unlink()
    check_owner(place)
