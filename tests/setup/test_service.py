"""The units of the helper, installed if a reaction needs root; logrotate's file."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.config.respond import Respond
from sentryfw.errors import SentryError
from sentryfw.host.account import LINK_USER, Account
from sentryfw.setup import service
from sentryfw.setup.unit_files import (
    FILES,
    HELPER,
    HELPER_FILES,
    LOGROTATE,
    UNIT,
    Service,
    rendered_helper,
    rendered_link,
    rendered_logrotate,
)


def _unit(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_units_accept_the_daemons_user_and_run_our_interpreter() -> None:
    made = Service(Path("/opt/bin/sentryfwd"), Path("/etc/sentryfw/x y.toml"), Paths())
    units = rendered_helper(made, Account(977, 978), HELPER)
    listening = _unit(units["sentryfw-respond.socket"])["Socket"]
    assert listening["ListenStream"] == "/run/sentryfw-respond.sock" == str(Paths().helper)
    assert listening["SocketMode"] == "0600"
    words = _unit(units["sentryfw-respond.service"])["Service"]["ExecStart"]
    assert words == (
        f"{sys.executable} -I -m sentryfw.respond.helper"
        ' --config "/etc/sentryfw/x y.toml" --user 977'
    )
    assert not any("@" in text for text in units.values())


def test_the_link_has_a_user_of_its_own_and_no_capability() -> None:
    made = Service(Path("/opt/bin/sentryfwd"), Path("/etc/sentryfw/sentryfw.toml"), Paths())
    text = rendered_link(made)
    section = _unit(text)["Service"]
    assert section["ExecStart"] == "/opt/bin/sentryfw-link --config /etc/sentryfw/sentryfw.toml"
    assert (section["User"], section["SupplementaryGroups"]) == ("sentryfw-link", "sentryfw")
    assert section["User"] == LINK_USER
    assert section["CapabilityBoundingSet"] == section["AmbientCapabilities"] == ""
    assert section["RuntimeDirectory"] == Paths().link_status.parent.name
    assert "StateDirectory" not in section
    assert "ReadWritePaths" not in section
    assert "@" not in re.sub(r"~?@(system-service|privileged|resources)", "", text)


@pytest.mark.parametrize(
    ("settings", "needs_root"),
    [
        ({}, False),
        ({"route": {"enabled": True}, "mail": {"to": ["a@example.org"]}}, False),
        ({"hosts_deny": {"enabled": True}}, True),
        ({"command": {"argv": ["/bin/true"]}}, True),
    ],
    ids=["nothing", "net-admin-is-enough", "hosts-deny", "command"],
)
def test_root_is_needed_for_files_and_commands_alone(settings: object, needs_root: bool) -> None:  # noqa: FBT001
    assert Respond.model_validate(settings).needs_root == needs_root


def test_units_that_are_no_longer_wanted_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ETC", tmp_path)
    monkeypatch.setattr(service, "SYSTEMD", tmp_path / "no-systemd")
    for place in HELPER_FILES.values():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    service._remove_helper(keep=HELPER)
    assert all((tmp_path / place).exists() for place in HELPER_FILES.values())
    service._remove_helper()
    assert not any((tmp_path / place).exists() for place in HELPER_FILES.values())


# --- logrotate


def _logs(text: str) -> str:
    return next(line for line in text.splitlines() if line.endswith("{"))


def test_logrotates_file_is_that_of_the_packages() -> None:
    packaged = Path(__file__).parents[2] / "packaging" / "common" / "logrotate"
    assert rendered_logrotate(Config()) == packaged.read_text()


def test_logrotate_acts_as_the_daemons_user_and_copies_nothing() -> None:
    """Root would follow a link of that user; a copy loses the events written during it."""
    text = rendered_logrotate(Config())
    assert "\tsu sentryfw sentryfw\n" in text
    assert "copytruncate" not in text


@pytest.mark.parametrize(
    ("log", "expected"),
    [("/srv/log", "/srv/log/events.json"), ("/srv/my log", '"/srv/my log/events.json"')],
)
def test_logrotate_finds_the_configured_directory(log: str, expected: str) -> None:
    config = Config(paths=Paths(log=log))
    assert _logs(rendered_logrotate(config)).startswith(f"{expected} ")


@pytest.mark.parametrize("log", ["/srv/*", "/srv/a[b]", '/srv/"x"', "/srv/{a}", "/srv/a\nb"])
def test_a_path_that_logrotate_takes_for_a_pattern_is_refused(log: str) -> None:
    with pytest.raises(SentryError, match="pattern"):
        rendered_logrotate(Config.model_construct(**dict(Config(), paths=_Logs(Path(log)))))


class _Logs(NamedTuple):
    log: Path

    @property
    def events(self) -> Path:
        return self.log / "events.json"


@pytest.mark.parametrize("is_packaged", [False, True])
def test_a_checkout_brings_logrotates_file_and_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_packaged: bool
) -> None:
    """A package's file stays: it may have been edited."""
    monkeypatch.setattr(service, "ETC", tmp_path / "etc")
    monkeypatch.setattr(service, "VENDOR", tmp_path / "vendor")
    monkeypatch.setattr(service, "SYSTEMD", tmp_path / "no-systemd")
    place = tmp_path / "etc" / LOGROTATE
    if is_packaged:
        unit = tmp_path / "vendor" / FILES[UNIT]
        unit.parent.mkdir(parents=True)
        unit.touch()
        place.parent.mkdir(parents=True)
        place.write_text("# edited\n")
    said: list[str] = []
    service._provide_logrotate(Config(), said.append)
    assert place.read_text() == ("# edited\n" if is_packaged else rendered_logrotate(Config()))
    service.remove(said.append)
    assert place.exists() == is_packaged


@pytest.mark.root
@pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate")
def test_logrotate_accepts_it(tmp_path: Path) -> None:
    config = tmp_path / "logrotate.conf"
    config.write_text(rendered_logrotate(Config()).replace("su sentryfw sentryfw", "su root root"))
    config.chmod(0o644)
    state = f"--state={tmp_path / 'state'}"
    done = subprocess.run(
        ["logrotate", "--debug", state, config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr
