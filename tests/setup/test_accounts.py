"""The daemon's user and its directories, created by root.

The tools that create users run in a mount namespace with an /etc of their own: the machine's is not
changed.
"""

import json
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sentryfw.config.model import Paths
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.host.account import Account
from sentryfw.setup import service
from sentryfw.setup.accounts import own_directories
from support.inprocess import SERVICE_USER

SCRIPT: Final = """
mount --bind {etc} /etc
mount -t tmpfs none /run
cd /
exec {python} -P -c '
from pathlib import Path
import shutil
from sentryfw.host import account
from sentryfw.setup import service
shutil.which = (lambda which: lambda name: which(name) if name in {only} else None)(shutil.which)
service._account(print)
service._account(print)
'
"""


ACCOUNTS: Final = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:19000:0:99999:7:::\n",
    "gshadow": "root:*::\n",
}
"""Files of a host with one user. A copy of the machine's files may be half changed while apt
installs a package."""


@pytest.mark.root
@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(tool, marks=pytest.mark.skipif(not shutil.which(tool), reason=f"needs {tool}"))
        for tool in ("systemd-sysusers", "useradd")
    ],
)
def test_the_user_is_created_once_and_cannot_log_in(tmp_path: Path, tool: str) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    for name, text in ACCOUNTS.items():
        (etc / name).write_text(text)
    for name in ("login.defs", "nsswitch.conf"):
        if (Path("/etc") / name).exists():
            shutil.copy(Path("/etc") / name, etc / name)
    script = SCRIPT.format(
        etc=shlex.quote(str(etc)), python=sys.executable, only=json.dumps([tool])
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "created the system user sentryfw\n"
    [line] = [ln for ln in (etc / "passwd").read_text().splitlines() if ln.startswith("sentryfw:")]
    uid, gid, _, home, shell = line.split(":")[2:]
    assert 0 < int(uid) < 1000
    assert shell.endswith("nologin")
    assert not Path(home).exists() or home == "/"
    groups = (etc / "group").read_text().splitlines()
    assert [ln.split(":")[2] for ln in groups if ln.startswith("sentryfw:")] == [gid]
    shadow = (etc / "shadow").read_text().splitlines()
    found = [line.split(":")[:2] for line in shadow if line.startswith("sentryfw")]
    # The file of systemd-sysusers has the link's user, too.
    link = ["sentryfw-link"] if tool == "systemd-sysusers" else []
    assert sorted(name for name, _ in found) == ["sentryfw", *link]
    assert all(password in ("!", "!*", "!!", "*") for _, password in found)


def test_an_error_names_the_user_that_cannot_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ETC", tmp_path)
    monkeypatch.setattr(account, "USER", "sentryfw-of-a-test")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SentryError, match=r"cannot create .*no useradd.*create it"):
        service._account(print)


# --- the directories


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(account, "USER", SERVICE_USER)
    entry = pwd.getpwnam(SERVICE_USER)
    return Account(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(state=tmp_path / "state", runtime=tmp_path / "runtime", log=tmp_path / "log")


def _ownership(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.root
def test_the_directories_are_created_for_their_owner(paths: Paths, owner: Account) -> None:
    own_directories(paths, owner)
    for path in (paths.state, paths.runtime, paths.log):
        assert _ownership(path) == (*owner, 0o750)


@pytest.mark.root
def test_files_of_a_root_daemon_change_their_owner_and_links_are_not_followed(
    paths: Paths, owner: Account, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("root's")
    (paths.state / "evidence").mkdir(parents=True)
    paths.ledger.touch(mode=0o640)
    (paths.evidence / "1.pcapng").touch()
    (paths.state / "link").symlink_to(mine)
    own_directories(paths, owner)
    for path in (paths.ledger, paths.evidence, paths.evidence / "1.pcapng"):
        assert _ownership(path)[:2] == owner
    assert _ownership(mine)[:2] == (0, 0)


@pytest.mark.root
def test_files_within_the_owners_directory_keep_their_owner(paths: Paths, owner: Account) -> None:
    """The user may have placed a hard link to a file of root's there, which must not become its."""
    own_directories(paths, owner)
    planted = paths.state / "planted"
    planted.touch()
    own_directories(paths, owner)
    assert _ownership(planted)[:2] == (0, 0)


@pytest.mark.root
@pytest.mark.parametrize("what", ["link", "another user's", "world-writable"])
def test_a_directory_that_others_could_write_to_is_refused(
    paths: Paths, owner: Account, tmp_path: Path, what: str
) -> None:
    if what == "link":
        (tmp_path / "target").mkdir()
        paths.state.symlink_to(tmp_path / "target")
    else:
        paths.state.mkdir()
        if what == "world-writable":
            paths.state.chmod(0o777)
        else:
            os.chown(paths.state, 65534, 65534)
    before = _ownership(paths.state)
    with pytest.raises(SentryError, match=re.escape(str(paths.state))):
        own_directories(paths, owner)
    assert _ownership(paths.state) == before
