"""config show, config diff, reload, metrics: without a daemon, and as JSON and lines."""

import json
from typing import Any

import pytest

from sentryfw import config
from sentryfw.config.model import Config
from support.box import Box
from support.fake_host import FakeHost
from support.host import Host

SETTINGS = """
[detect]
trigger = 4
[never_block]
addresses = ["192.0.2.0/24", "2001:db8::1"]
[watch]
listed_tcp = ["6000-6010", 22]
[detect.triggers]
null = 3
"""


def drop_in(host: Host, name: str, text: str) -> str:
    (host.home / "conf.d").mkdir(exist_ok=True)
    path = host.home / "conf.d" / name
    path.write_text(text)
    return str(path)


def lines(text: str) -> dict[str, list[str]]:
    return {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}


def keys(bare_host: FakeHost) -> dict[str, Any]:
    shown = json.loads(bare_host.sentryfw("config", "show", "--json").stdout)
    return {row["key"]: row for row in shown["keys"]}


def test_every_key_is_shown_with_its_value_and_where_it_came_from(bare_host: FakeHost) -> None:
    bare_host.configure(SETTINGS)
    more = drop_in(bare_host, "50.toml", '[detect]\ntrigger = 5\n[block]\ntimeouts = ["90s", "1d"]')
    shown = lines(bare_host.sentryfw("config", "show").stdout)
    main = str(bare_host.config)
    assert shown["key"] == ["value", "from"]
    assert shown["detect.trigger"] == ["5", more]
    assert shown["detect.window"] == ["5m", "default"]
    assert shown["detect.triggers.null"] == ["3", main]
    assert shown["watch.listed_tcp"] == ["6000-6010,22", main]
    assert shown["never_block.addresses"] == ["192.0.2.0/24,2001:db8::1/128", main]
    assert shown["block.timeouts"] == ["90s,1d", more]
    assert shown["respond.mail.to"] == ["-", "default"]
    assert shown["paths.state"] == [str(bare_host.home / "state"), main]


@pytest.mark.parametrize("triggers", ["{}", "{ null = 3 }"], ids=["empty", "partial"])
def test_a_trigger_that_no_file_names_is_the_default(bare_host: FakeHost, triggers: str) -> None:
    bare_host.configure(f"[detect]\ntriggers = {triggers}\n")
    shown = lines(bare_host.sentryfw("config", "show").stdout)
    assert shown["detect.triggers.fin"] == ["2", "default"]


def test_what_is_shown_is_a_configuration_again(bare_host: FakeHost) -> None:
    """Each value as it may be written."""
    bare_host.configure(SETTINGS)
    table: dict[str, Any] = {}
    for key, row in keys(bare_host).items():
        if row["value"] is not None:
            *path, name = key.split(".")
            place = table
            for part in path:
                place = place.setdefault(part, {})
            place[name] = row["value"]
    assert Config.model_validate(table) == config.load(bare_host.config)


def test_only_what_differs_is_in_the_diff(bare_host: FakeHost) -> None:
    bare_host.configure(SETTINGS)
    done = bare_host.sentryfw("config", "diff")
    found = lines(done.stdout)
    ours = {key for key in found if not key.startswith("paths.")}
    assert ours == {
        "key", "detect.trigger", "detect.triggers.null", "never_block.addresses",
        "watch.listed_tcp",
    }  # fmt: skip
    assert found["detect.trigger"] == ["4", "3", "default", str(bare_host.config)]
    assert found["detect.triggers.null"] == ["3", "2", "default", str(bare_host.config)]
    assert "the daemon is not running" in done.stderr
    assert json.loads(bare_host.sentryfw("config", "diff", "--json").stdout)["running"] is None


def test_a_fault_is_reported_with_its_file_and_ends_in_78(bare_host: FakeHost) -> None:
    path = drop_in(bare_host, "10.toml", "[detect]\ntriger = 1")
    for words in (("config", "show"), ("config", "diff"), ("reload",), ("check",)):
        done = bare_host.sentryfw(*words)
        assert done.returncode == 78
        assert done.stderr.startswith(f"sentryfw: {path}: detect.triger: unknown key")
    found = json.loads(bare_host.sentryfw("check", "--json").stdout)
    [fault] = found["faults"]
    assert fault.startswith(f"{path}: detect.triger")


def test_without_a_daemon_reload_ends_in_3_and_metrics_say_so(bare_host: FakeHost) -> None:
    assert bare_host.sentryfw("reload").returncode == 3
    done = bare_host.sentryfw("metrics")
    assert done.returncode == 3
    assert "\nsentryfw_up 0\n" in done.stdout


@pytest.mark.netns
def test_an_unprivileged_user_may_read_the_configuration(box: Box) -> None:
    box.configure(SETTINGS)
    done = box.sentryfw("config", "show", as_root=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.netns
def test_panic_finds_directories_that_a_broken_drop_in_names(box: Box) -> None:
    box.config.write_text("")
    drop_in(box, "10.toml", f'[paths]\nstate = "{box.home}/state"\nruntime = "{box.home}/r"\nx = [')
    done = box.sentryfw("panic")
    assert done.returncode == 0, done.stderr
    assert (box.home / "r" / "panic").exists() or (box.home / "state" / "panic").exists()


@pytest.mark.netns
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
