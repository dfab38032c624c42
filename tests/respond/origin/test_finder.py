"""Origins for messages: from the files, and without them where another process fails."""

import sys
from pathlib import Path

import pytest

from sentryfw.config.origin import Geo, Labels
from sentryfw.origin import ask as asked
from sentryfw.origin.model import Origin
from sentryfw.respond.origin.finder import OriginFinder
from support.origins import GERMAN, SCANNER, write_mmdb


def test_origins_are_found_and_faults_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = write_mmdb(tmp_path / "a.mmdb", {"203.0.113.0/24": GERMAN})
    find = OriginFinder(Geo(databases=(tmp_path / "no.mmdb", good)), Labels())
    assert find([]) == {}
    for _ in range(2):
        assert find([SCANNER]) == {SCANNER: Origin("DE")}
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'no.mmdb'}: No such file or directory"
    ]


def test_a_message_goes_without_origins_if_they_cannot_be_looked_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asked, "COMMAND", [sys.executable, "-P", "-c", "raise SystemExit(1)"])
    find = OriginFinder(Geo(databases=(Path("/a.mmdb"),)), Labels())
    assert find([SCANNER]) == {}
    assert [record.message for record in caplog.records] == [
        "origins: their process failed: CalledProcessError"
    ]
