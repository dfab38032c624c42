"""The units of the helper: there where a reaction needs root, and only there."""

import configparser
import sys
from pathlib import Path

import pytest

from sentryfw.account import Account
from sentryfw.cli import service
from sentryfw.cli.service import HELPER, HELPER_FILES, Service
from sentryfw.config import Paths
from sentryfw.config_respond import Respond


def _unit(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_units_listen_for_the_daemons_user_and_run_our_interpreter() -> None:
    made = Service(Path("/opt/bin/sentryfwd"), Path("/etc/sentryfw/x y.toml"), Paths())
    units = service._rendered_helper(made, Account(977, 978), HELPER)
    listening = _unit(units["sentryfw-respond.socket"])["Socket"]
    assert listening["ListenStream"] == "/run/sentryfw-respond.sock" == str(Paths().helper)
    assert listening["SocketMode"] == "0600"
    words = _unit(units["sentryfw-respond.service"])["Service"]["ExecStart"]
    assert words == (
        f"{sys.executable} -P -m sentryfw.respond.helper"
        ' --config "/etc/sentryfw/x y.toml" --user 977'
    )
    assert not any("@" in text for text in units.values())


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
