"""The files of a hub."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentryfw.errors import SentryError, UsageError
from sentryfw.setup.fleet.hub_files import HubFiles, HubPlan, users, write_private

KEYS = {"fw1": "11" * 32, "fw2": "22" * 32}
PLAN = HubPlan(("192.0.2.1", "hub.example.org"))
NOW = datetime.now(UTC)


@pytest.fixture
def files(tmp_path: Path) -> HubFiles:
    return HubFiles(tmp_path / "hub")


def test_each_member_is_invited_with_the_keys_of_the_others(files: HubFiles) -> None:
    invitations = files.write(PLAN, KEYS, NOW)
    assert {name: dict(made.members) for name, made in invitations.items()} == {
        "fw1": {"fw2": KEYS["fw2"]}, "fw2": {"fw1": KEYS["fw1"]},
    }  # fmt: skip
    access = invitations["fw2"].access
    assert access is not None
    assert (access.name, access.url) == ("fw2", "rediss://192.0.2.1:6380")
    assert access.authority == (files.directory / "ca.pem").read_text()
    [line] = [
        line for line in (files.directory / "users.acl").read_text().splitlines() if "fw2" in line
    ]
    assert "%W~sentryfw:fw2 " in line
    assert access.password not in (files.directory / "users.acl").read_text()


def test_private_files_are_roots_and_the_rest_the_servers(files: HubFiles) -> None:
    files.write(PLAN, KEYS, NOW)
    modes = {path.name: path.stat().st_mode & 0o777 for path in files.directory.iterdir()}
    assert modes == {
        "ca.key": 0o600, "members.json": 0o600, "ca.pem": 0o640, "hub.pem": 0o640,
        "hub.key": 0o640, "users.acl": 0o640, "redis.conf": 0o640,
    }  # fmt: skip
    assert files.directory.stat().st_mode & 0o777 == 0o750


def test_a_new_member_leaves_the_others_their_access(files: HubFiles) -> None:
    before = files.write(PLAN, KEYS, NOW)
    old = (files.directory / "users.acl").read_text().splitlines()
    after = files.write(PLAN, {"fw3": "33" * 32}, NOW)
    assert set(old) < set((files.directory / "users.acl").read_text().splitlines())
    assert after["fw1"].access is None
    assert dict(after["fw1"].members) == {"fw2": KEYS["fw2"], "fw3": "33" * 32}
    assert after["fw3"].access is not None
    assert before["fw1"].access is not None
    assert after["fw3"].access.authority == before["fw1"].access.authority


def test_a_member_that_is_named_again_gets_another_password(files: HubFiles) -> None:
    first, again = (files.write(PLAN, {"fw1": KEYS["fw1"]}, NOW)["fw1"].access for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.password != again.password
    assert (files.directory / "users.acl").read_text().count("user fw1 ") == 1


@pytest.mark.parametrize(
    ("plan", "keys", "problem"),
    [
        (HubPlan(()), KEYS, "name the hub's address"),
        (HubPlan(("a b",)), KEYS, "is not an address"),
        (HubPlan(("user@host",)), KEYS, "is not an address"),
        (PLAN, {"FW": "11" * 32}, "is not a member's name"),
        (PLAN, {"fw1": "11"}, "is not 64 hexadecimal digits"),
        (PLAN, {f"fw{n}": "11" * 32 for n in range(1001)}, "1000 members at most"),
    ],
)
def test_wrong_choices_are_named_and_nothing_is_written(
    files: HubFiles, plan: HubPlan, keys: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        files.write(plan, keys, NOW)
    assert not (files.directory / "users.acl").exists()


def test_damage_is_named(files: HubFiles) -> None:
    files.write(PLAN, KEYS, NOW)
    (files.directory / "members.json").write_text("[]")
    with pytest.raises(SentryError, match=r"members\.json is damaged"):
        files.write(PLAN, KEYS, NOW)
    (files.directory / "members.json").unlink()
    (files.directory / "ca.key").unlink()
    with pytest.raises(SentryError, match=r"one of ca\.pem and ca\.key is missing"):
        files.write(PLAN, KEYS, NOW)


@pytest.mark.root
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
    try:
        write_private(place / "users.acl", "old\n", 0o640, -1)
        with pytest.raises(SentryError, match="No space left on device"):
            write_private(place / "users.acl", "x" * 200_000, 0o640, -1)
        assert os.listdir(place) == ["users.acl"]  # noqa: PTH208 - names
        assert (place / "users.acl").read_text() == "old\n"
    finally:
        subprocess.run(["umount", place], check=True)


def test_ipv6_has_brackets_in_the_url(files: HubFiles) -> None:
    access = files.write(HubPlan(("2001:db8::1",)), KEYS, NOW)["fw1"].access
    assert access is not None
    assert access.url == "rediss://[2001:db8::1]:6380"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_the_server_accepts_its_users(tmp_path: Path) -> None:
    members = json.loads(json.dumps({"fw1": {"key": "", "password": "0" * 64}}))
    (tmp_path / "users.acl").write_text(users(members))
    done = subprocess.run(
        ["redis-server", "--port", "0", "--unixsocket", tmp_path / "s", "--dir", tmp_path,
         "--aclfile", tmp_path / "users.acl", "--daemonize", "no", "--maxclients", "0"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert "ACL" not in done.stdout + done.stderr
