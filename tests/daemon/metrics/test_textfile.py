"""The text file: complete at any moment, readable for all, and safe from other users."""

import os
import stat
from pathlib import Path

import pytest

from sentryfw.daemon.metrics.textfile import write
from sentryfw.errors import SentryError


def test_a_new_version_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "sentryfw.prom"
    mask = os.umask(0o077)
    try:
        write(path, "one\n")
        before = path.stat().st_ino
        write(path, "two\n")
    finally:
        os.umask(mask)
    assert path.read_text() == "two\n"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["sentryfw.prom"]


def test_what_a_crash_left_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / ".sentryfw.prom.new").symlink_to(tmp_path / "other")
    write(tmp_path / "sentryfw.prom", "one\n")
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "sentryfw.prom").is_symlink()


def test_a_directory_that_other_users_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SentryError, match="other users may write there: chmod o-w"):
        write(tmp_path / "sentryfw.prom", "one\n")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SentryError, match="No such file or directory: the daemon's user must"):
        write(tmp_path / "missing" / "sentryfw.prom", "one\n")
