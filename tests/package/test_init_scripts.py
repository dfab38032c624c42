"""Accounts and services where there is no systemd: Alpine's OpenRC, OpenWrt's procd."""

import subprocess
from pathlib import Path
from typing import Final

import lay_out
import pytest

PACKAGING: Final = lay_out.OWN
COMMANDS: Final = {name: f"/{lay_out.HOME}/bin/{name}" for name, _ in lay_out.PROGRAMS}
INSIDE: Final = """\
set -e
mount --make-rprivate /
mount --bind "$0" /etc
mount -t tmpfs none /var/lib
mount -t tmpfs none /var/log
exec "$@"
"""
USERS: Final = """\
found=$1
getent() { $found; }
addgroup() { echo addgroup "$@"; }
adduser() { echo adduser "$@"; }
install() { :; }
. "$0"
"""
PROCD: Final = """\
procd_open_instance() { echo open; }
procd_set_param() { echo "$@"; }
procd_close_instance() { echo close; }
mkdir() { :; }
chmod() { :; }
chown() { :; }
. "$0"
start_service
"""
OPENRC: Final = """\
checkpath() { echo checkpath "$@"; }
after() { echo after "$@"; }
need() { echo need "$@"; }
. "$0"
echo "$command $command_args as ${command_user-root}, by $supervisor"
depend
if type start_pre >/dev/null 2>&1; then start_pre; fi
"""


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def members(etc: Path, group: str) -> list[str]:
    """Return the members of a group, which is there once."""
    lines = [line.split(":") for line in (etc / "group").read_text().splitlines()]
    [found] = [line[3] for line in lines if line[0] == group]
    return found.split(",") if found else []


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The /etc of a machine with root alone."""
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\n")
    (tmp_path / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    return tmp_path


@pytest.mark.root
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ["sentryfw-link"]),
        ("sentryfw:x:527:\n", ["sentryfw-link"]),
        ("sentryfw:x:527:admin\n", ["admin", "sentryfw-link"]),
        ("sentryfw:x:527:sentryfw-link2\n", ["sentryfw-link2", "sentryfw-link"]),
        ("sentryfw:x:527:admin,sentryfw-link\n", ["admin", "sentryfw-link"]),
    ],
)
def test_openwrt_gets_both_users_once(etc: Path, before: str, after: list[str]) -> None:
    with (etc / "group").open("a") as file:
        file.write(before)
    for _ in range(2):
        run("unshare", "--mount", "sh", "-c", INSIDE, etc, "sh", PACKAGING / "openwrt" / "postinst")
        assert members(etc, "sentryfw") == after
        assert members(etc, "sentryfw-link") == members(etc, "root") == []
        users = [line.split(":") for line in (etc / "passwd").read_text().splitlines()]
        assert [(user[0], user[2], user[6]) for user in users] == [
            ("root", "0", "/bin/sh"), ("sentryfw", "527", "/bin/false"),
            ("sentryfw-link", "528", "/bin/false"),
        ]  # fmt: skip


@pytest.mark.parametrize("exists", [True, False])
def test_alpine_gets_both_users_once(*, exists: bool) -> None:
    """Each is made if it is missing. busybox: `addgroup USER GROUP` makes a user a member."""
    found = "true" if exists else "false"
    lines = run("sh", "-c", USERS, PACKAGING / "apk" / "post-install", found).splitlines()
    calls = [line for line in lines if line.startswith("add")]
    assert calls.pop() == "addgroup sentryfw-link sentryfw"
    user = "adduser -S -D -H -h /nonexistent -s /sbin/nologin -G"
    assert calls == ([] if exists else [
        "addgroup -S sentryfw", f"{user} sentryfw sentryfw",
        "addgroup -S sentryfw-link", f"{user} sentryfw-link sentryfw-link",
    ])  # fmt: skip


@pytest.mark.parametrize("name", ["sentryfw", "sentryfw-link"])
def test_procd_starts_a_command_of_the_package(name: str) -> None:
    lines = run("sh", "-c", PROCD, PACKAGING / "openwrt" / f"{name}.initd").splitlines()
    command = COMMANDS["sentryfwd" if name == "sentryfw" else name]
    assert f"command {command} --config /etc/sentryfw/sentryfw.toml" in lines
    assert (lines[0], lines[-1]) == ("open", "close")
    # The daemon gives its rights up by itself.
    assert ("user sentryfw-link" in lines) == (name == "sentryfw-link")


@pytest.mark.parametrize("name", ["sentryfw", "sentryfw-link"])
def test_openrc_starts_a_command_of_the_package(name: str) -> None:
    first, *rest = run("sh", "-c", OPENRC, PACKAGING / "apk" / f"{name}.initd").splitlines()
    command = COMMANDS["sentryfwd" if name == "sentryfw" else name]
    user = "sentryfw-link:sentryfw-link" if name == "sentryfw-link" else "root"
    assert first == f"{command} --config /etc/sentryfw/sentryfw.toml as {user}, by supervise-daemon"
    assert "need net" in rest
    assert ("after sentryfw" in rest) == (name == "sentryfw-link")


@pytest.mark.parametrize("kind", ["apk", "openwrt"])
def test_a_package_brings_every_service_of_its_kind(kind: str, tmp_path: Path) -> None:
    lay_out.services(tmp_path, kind)
    found = sorted(path.name for path in (tmp_path / "etc/init.d").iterdir())
    assert found == ["sentryfw", "sentryfw-link"]
    for path in (tmp_path / "etc/init.d").iterdir():
        assert path.stat().st_mode & 0o777 == 0o755
