"""Single keys: words to values, the file that is kept, what is refused."""

import datetime as dt
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from sentryfw import config
from sentryfw.config.edit import (
    FILE,
    LISTS_OF_TABLES,
    Edited,
    place_of,
    readings,
    with_key,
    without_key,
)
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, NotFound, UsageError


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "sentryfw.toml"
    path.write_text("[detect]\ntrigger = 4\n")
    (tmp_path / "conf.d").mkdir()
    return path


def keep(main: Path, edited: Edited) -> Config:
    """Write the file as the command does."""
    place_of(main).write_text(edited.text)
    return config.load(main)


def put(main: Path, key: str, *words: str) -> Config:
    return keep(main, with_key(main, key, words))


@pytest.mark.parametrize(
    ("key", "words", "value"),
    [
        ("detect.trigger", ["5"], 5),
        ("detect.window", ["10m"], 600.0),
        ("detect.window", ["90"], 90.0),
        ("detect.mode", ["observe"], "observe"),
        ("watch.forward", ["false"], False),
        ("watch.interfaces", ["eth0"], ("eth0",)),
        ("watch.interfaces", ["eth0", "ppp*"], ("eth0", "ppp*")),
        ("watch.interfaces", ["[]"], ()),
        ("watch.listed_tcp", ["22", "6000-6010"], ((22, 22), (6000, 6010))),
        ("watch.listed_tcp", ['[22, "80-81"]'], ((22, 22), (80, 81))),
        ("decoy.banner", ["220"], "220"),
        ("decoy.banner", ["220 ready\r\n"], "220 ready\r\n"),
        ("decoy.banner", ["1979-05-27"], "1979-05-27"),
        ("decoy.banner", ['x\n[detect]\nmode = "observe"'], 'x\n[detect]\nmode = "observe"'),
        ("paths.state", ["/srv/sentryfw"], Path("/srv/sentryfw")),
        ("block.timeouts", ["5m", "1d"], (300.0, 86400.0)),
    ],
)
def test_words_mean_what_the_key_takes(main: Path, key: str, words: list[str], value: Any) -> None:
    section, name = key.split(".")
    assert getattr(getattr(put(main, key, *words), section), name) == value


def test_a_section_is_set_as_a_whole(main: Path) -> None:
    """Keys that need each other cannot be set one by one."""
    with pytest.raises(ConfigError, match="go together"):
        with_key(main, "respond.syslog.certificate", ["/etc/c.pem"])
    table = '{ transport = "tls", host = "log.example.org", certificate = "/c", key = "/k" }'
    syslog = put(main, "respond.syslog", table).respond.syslog
    assert (syslog.transport, syslog.key) == ("tls", Path("/k"))


def test_other_keys_of_the_file_are_kept(main: Path) -> None:
    put(main, "detect.window", "10m")
    put(main, "detect.triggers.null", "2")
    found = put(main, "detect.trigger", "6").detect
    assert (found.window, found.trigger, found.triggers["null"]) == (600.0, 6, 2)
    assert main.read_text() == "[detect]\ntrigger = 4\n"


def test_unset_ends_what_set_began(main: Path) -> None:
    put(main, "detect.trigger", "6")
    put(main, "detect.window", "10m")
    assert keep(main, without_key(main, "detect.trigger")).detect.trigger == 4
    assert keep(main, without_key(main, "detect")).detect.window == 300.0
    assert tomllib.loads(place_of(main).read_text()) == {}


def test_unset_names_the_file_that_sets_it(main: Path) -> None:
    with pytest.raises(NotFound, match=rf"{FILE} does not set detect.trigger: {main} does, edit"):
        without_key(main, "detect.trigger")
    with pytest.raises(NotFound, match="its default applies"):
        without_key(main, "detect.window")


@pytest.mark.parametrize(
    ("key", "words", "fault"),
    [
        ("detect.triger", ["5"], "unknown key, did you mean 'trigger'"),
        ("detect.trigger", ["0"], "must be 1 or more"),
        ("detect.trigger", ["many"], "write a whole number"),
        ("detect.trigger", ["1", "2"], "write a whole number"),
        ("detect.window", ["soon"], "is not a duration"),
        ("detect", ["5"], "detect: "),
        ("watch.forward", ["true"], "forward needs interfaces"),
        ("watch.trap_tcp", ["22"], 'need mode = "traps"'),
        ("detect.trigger.x.y", ["5"], "detect.trigger"),
        ("decoy.banner", ["x" * 513], "longer than 512 bytes"),
    ],
)
def test_a_fault_is_that_of_check(main: Path, key: str, words: list[str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        with_key(main, key, words)
    assert set(caught.value.files) <= {str(place_of(main)), str(main)}


@pytest.mark.parametrize(
    "key", ["", ".", "detect.", "de tect", "a.b.c.d.e", "x\ny", "ä", "[detect]"]
)
def test_text_in_place_of_a_key_is_a_usage_error(main: Path, key: str) -> None:
    with pytest.raises(UsageError, match="is not a key"):
        with_key(main, key, ["1"])


@pytest.mark.parametrize(
    ("key", "words", "name"),
    [
        ("zone", ["x"], "zone"), ("zone.trigger", ["5"], "zone"),
        ("zone.guests.trigger", ["5"], "zone"), ("respond.webhook.url", ["x"], "respond.webhook"),
    ],
)  # fmt: skip
def test_a_key_of_a_list_of_tables_belongs_into_a_file(
    main: Path, key: str, words: list[str], name: str
) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is a list of tables: write \[\[{name}\]\]"):
        with_key(main, key, words)


def test_a_list_of_tables_can_be_set_as_a_whole(main: Path) -> None:
    words = ['[{name = "guests", interfaces = ["guest0"]}]']
    edited = with_key(main, "zone", words)
    assert edited.loaded is not None
    assert [zone.name for zone in edited.loaded.config.zone] == ["guests"]


def test_every_list_of_tables_is_known() -> None:
    def tables(section: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, field in section.model_fields.items():
            kind, inner = field.annotation, get_args(field.annotation)
            if inner and isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
                yield (*at, name)
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from tables(kind, (*at, name))

    assert set(tables(Config)) == set(LISTS_OF_TABLES)


def test_a_value_without_end_is_refused(main: Path) -> None:
    with pytest.raises(UsageError, match="more than 8192 bytes"):
        with_key(main, "decoy.banner", ["x" * 8193])


def test_a_later_file_that_sets_it_is_named(main: Path) -> None:
    later = main.parent / "conf.d" / "99-zone.toml"
    later.write_text("[detect]\nwindow = 60\n")
    with pytest.raises(ConfigError, match=rf"{later}: detect.window is set here"):
        with_key(main, "detect.window", ["10m"])
    assert put(main, "detect.trigger", "6").detect.trigger == 6


def test_a_fault_elsewhere_prevents_no_repair(main: Path) -> None:
    main.write_text('[detect]\ntrigger = 0\nmode = "off"\n')
    edited = with_key(main, "detect.mode", ["observe"])
    assert edited.loaded is None
    assert edited.faults is not None
    assert len(edited.faults.faults) == 1
    place_of(main).write_text(edited.text)
    assert put(main, "detect.trigger", "3").detect.mode == "observe"


def test_a_file_that_is_not_toml_is_named(main: Path) -> None:
    place_of(main).write_text("x = [")
    with pytest.raises(ConfigError, match=f"{FILE}: not TOML"):
        with_key(main, "detect.trigger", ["5"])


def test_a_date_is_text() -> None:
    assert not any(isinstance(value, dt.date) for value in readings(["1979-05-27"]))
