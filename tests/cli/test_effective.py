"""config show, config diff, reload, metrics: without a daemon, and as JSON and lines."""

import json
from typing import Any

import pytest

from sentryfw import config
from sentryfw.config import Config
from support.box import Box

pytestmark = pytest.mark.netns

SETTINGS = """
[detect]
trigger = 4
[never_block]
addresses = ["192.0.2.0/24", "2001:db8::1"]
[watch]
listed_tcp = ["6000-6010", 22]
[detect.triggers]
null = 2
"""


def drop_in(box: Box, name: str, text: str) -> str:
    (box.home / "conf.d").mkdir(exist_ok=True)
    path = box.home / "conf.d" / name
    path.write_text(text)
    return str(path)


def lines(text: str) -> dict[str, list[str]]:
    return {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}


def keys(box: Box) -> dict[str, Any]:
    shown = json.loads(box.sentryfw("config", "show", "--json").stdout)
    return {row["key"]: row for row in shown["keys"]}


def test_every_key_is_shown_with_its_value_and_where_it_came_from(box: Box) -> None:
    box.configure(SETTINGS)
    more = drop_in(box, "50.toml", '[detect]\ntrigger = 5\n[block]\ntimeouts = ["90s", "1d"]')
    shown = lines(box.sentryfw("config", "show").stdout)
    main = str(box.config)
    assert shown["key"] == ["value", "from"]
    assert shown["detect.trigger"] == ["5", more]
    assert shown["detect.window"] == ["5m", "default"]
    assert shown["detect.triggers.null"] == ["2", main]
    assert shown["watch.listed_tcp"] == ["6000-6010,22", main]
    assert shown["never_block.addresses"] == ["192.0.2.0/24,2001:db8::1/128", main]
    assert shown["block.timeouts"] == ["90s,1d", more]
    assert shown["respond.mail.to"] == ["-", "default"]
    assert shown["paths.state"] == [str(box.home / "state"), main]


@pytest.mark.parametrize("triggers", ["{}", "{ null = 2 }"], ids=["empty", "partial"])
def test_a_trigger_that_no_file_names_is_the_default(box: Box, triggers: str) -> None:
    box.configure(f"[detect]\ntriggers = {triggers}\n")
    shown = lines(box.sentryfw("config", "show").stdout)
    assert shown["detect.triggers.fin"] == ["1", "default"]


def test_what_is_shown_is_a_configuration_again(box: Box) -> None:
    """Each value as it may be written."""
    box.configure(SETTINGS)
    table: dict[str, Any] = {}
    for key, row in keys(box).items():
        if row["value"] is not None:
            *path, name = key.split(".")
            place = table
            for part in path:
                place = place.setdefault(part, {})
            place[name] = row["value"]
    assert Config.model_validate(table) == config.load(box.config)


def test_only_what_differs_is_in_the_diff(box: Box) -> None:
    box.configure(SETTINGS)
    done = box.sentryfw("config", "diff")
    found = lines(done.stdout)
    ours = {key for key in found if not key.startswith("paths.")}
    assert ours == {
        "key", "detect.trigger", "detect.triggers.null", "never_block.addresses",
        "watch.listed_tcp",
    }  # fmt: skip
    assert found["detect.trigger"] == ["4", "3", "default", str(box.config)]
    assert found["detect.triggers.null"] == ["2", "1", "default", str(box.config)]
    assert "the daemon is not running" in done.stderr
    assert json.loads(box.sentryfw("config", "diff", "--json").stdout)["running"] is None


def test_a_fault_is_told_with_its_file_and_ends_in_78(box: Box) -> None:
    path = drop_in(box, "10.toml", "[detect]\ntriger = 1")
    for words in (("config", "show"), ("config", "diff"), ("reload",), ("check",)):
        done = box.sentryfw(*words)
        assert done.returncode == 78
        assert done.stderr.startswith(f"sentryfw: {path}: detect.triger: unknown key")
    found = json.loads(box.sentryfw("check", "--json").stdout)
    [fault] = found["faults"]
    assert fault.startswith(f"{path}: detect.triger")


def test_without_a_daemon_reload_ends_in_3_and_metrics_say_so(box: Box) -> None:
    assert box.sentryfw("reload").returncode == 3
    done = box.sentryfw("metrics")
    assert done.returncode == 3
    assert "\nsentryfw_up 0\n" in done.stdout


def test_an_unprivileged_user_may_look_at_the_configuration(box: Box) -> None:
    box.configure(SETTINGS)
    done = box.sentryfw("config", "show", prefix=("setpriv", "--reuid=65534", "--clear-groups"))
    assert done.returncode == 0, done.stderr


def test_panic_finds_directories_that_a_broken_drop_in_names(box: Box) -> None:
    box.config.write_text("")
    drop_in(box, "10.toml", f'[paths]\nstate = "{box.home}/state"\nruntime = "{box.home}/r"\nx = [')
    done = box.sentryfw("panic")
    assert done.returncode == 0, done.stderr
    assert (box.home / "r" / "panic").exists() or (box.home / "state" / "panic").exists()


def test_purge_takes_the_default_drop_ins_away_too(box: Box) -> None:
    box.default_config.parent.mkdir()
    box.configure("", box.default_config)
    directory = box.default_config.parent / "conf.d"
    directory.mkdir()
    (directory / "10.toml").write_text("[detect]\ntrigger = 4")
    (directory / "README").write_text("the operator's")
    assert box.run("install", "--no-service").returncode == 0
    done = box.run("uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in directory.iterdir()] == ["README"]
    assert not box.default_config.exists()
