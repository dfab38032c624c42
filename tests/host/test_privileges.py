"""The rights of the process; tests/kernel/test_privileges.py drops them for good."""

import os
from pathlib import Path

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, SentryError, Unsupported
from sentryfw.host import account, privileges


def _status(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "status"
    path.write_text(text)
    return path


def test_capabilities_are_read_from_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = _status(tmp_path, "CapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n")
    monkeypatch.setattr(privileges, "STATUS", status)
    assert privileges.capabilities() == 1 << privileges.CAP_NET_ADMIN
    privileges.require_net_admin()


def test_a_process_without_net_admin_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = _status(tmp_path, "CapEff:\t0000000000000fff\n")
    monkeypatch.setattr(privileges, "STATUS", status)
    with pytest.raises(NoPrivilege, match="CAP_NET_ADMIN"):
        privileges.require_net_admin()


@pytest.mark.parametrize(("text", "error"), [(None, Unsupported), ("Name:\tx\n", SentryError)])
def test_an_unusable_proc_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, error: type[SentryError]
) -> None:
    status = tmp_path / "missing" if text is None else _status(tmp_path, text)
    monkeypatch.setattr(privileges, "STATUS", status)
    with pytest.raises(error, match=str(status)):
        privileges.capabilities()


def test_only_root_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoPrivilege):
        privileges.require_root()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    privileges.require_root()


def test_without_an_owner_of_the_state_the_process_keeps_its_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(account, "owner_of", lambda _: None)
    monkeypatch.setattr(privileges, "_drop", lambda _: pytest.fail("privileges were dropped"))
    config = Config.model_validate({"paths": {"state": str(tmp_path), "runtime": str(tmp_path)}})
    privileges.become_owner(config.paths)


@pytest.mark.netns  # needs root, to change owners
def test_missing_directories_are_made_for_the_owner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner = account.Account(65534, 65534)
    dropped: list[account.Account] = []
    monkeypatch.setattr(account, "owner_of", lambda _: owner)
    monkeypatch.setattr(privileges, "_drop", dropped.append)
    paths = {name: str(tmp_path / name) for name in ("state", "runtime", "log")}
    privileges.become_owner(Config.model_validate({"paths": paths}).paths)
    assert dropped == [owner]
    for name in ("runtime", "log"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o750)
