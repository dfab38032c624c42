"""The daemon's user, and acting as it."""

import os
import pwd
from pathlib import Path

import pytest

from sentryfw.host import account
from sentryfw.host.account import Account, acting_as_owner, owner_of

NOBODY = Account(65534, 65534)


@pytest.fixture
def daemon_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "find", lambda: NOBODY)


def test_a_missing_user_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "USER", "no-such-user")
    assert account.find() is None


def test_a_user_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.getpwuid(65534)
    monkeypatch.setattr(account, "USER", entry.pw_name)
    assert account.find() == Account(entry.pw_uid, entry.pw_gid)


@pytest.mark.usefixtures("daemon_user")
def test_a_directory_of_another_user_or_a_missing_one_has_no_owner(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    assert owner_of(tmp_path / "missing") is None


@pytest.mark.usefixtures("daemon_user")
def test_in_a_directory_of_ones_own_nothing_changes(tmp_path: Path) -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    with acting_as_owner(tmp_path):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.netns  # needs root, to become another user
@pytest.mark.usefixtures("daemon_user")
def test_root_acts_as_the_owner_and_is_root_again(tmp_path: Path) -> None:
    os.chown(tmp_path, *NOBODY)
    before = os.geteuid(), os.getegid(), os.getgroups()

    def fail() -> None:
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (*NOBODY, [])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), acting_as_owner(tmp_path):
        fail()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.root
@pytest.mark.usefixtures("daemon_user")
@pytest.mark.parametrize("where", ["own", "above", "link", "behind-a-link"])
def test_root_acts_as_the_user_who_owns_a_part_of_the_way(tmp_path: Path, where: str) -> None:
    """Its owner can put a link there that leads to a directory of root."""
    theirs, roots = tmp_path / "theirs", tmp_path / "root's"
    theirs.mkdir()
    roots.mkdir()
    place = theirs / "evidence"
    if where == "link":
        (tmp_path / "link").symlink_to(roots)
        os.chown(tmp_path / "link", *NOBODY, follow_symlinks=False)
        place = tmp_path / "link"
    else:
        os.chown(theirs, *NOBODY)
        place = {"own": theirs, "above": place, "behind-a-link": place}[where]
        if where == "behind-a-link":
            place.symlink_to(roots)
        elif where == "above":
            place.mkdir()
    assert owner_of(place) == NOBODY
    assert owner_of(roots) is None
