"""The warning about connection tracking that is full."""

from pathlib import Path

import pytest

from sentryfw.netlink.conntrack import Flows
from sentryfw.query import conntrack_room
from support.fake_host import FakeHost


@pytest.mark.parametrize(
    ("flows", "text"),
    [
        (None, ""),
        (Flows(5, 0), ""),
        (Flows(899, 1000), ""),
        (Flows(900, 1000), "is nearly full, 900 of 1000 flows"),
        (Flows(1001, 1000), "is full, 1001 of 1000 flows"),
    ],
)
def test_the_warning_begins_before_the_table_is_full(flows: Flows | None, text: str) -> None:
    found = conntrack_room.warning(flows)
    assert bool(found) is bool(text)
    assert text in (found or "")


@pytest.mark.parametrize("words", [("status",), ("list",), ("doctor",)], ids=" ".join)
def test_the_reading_commands_say_so(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(conntrack_room, "SYSCTL", tmp_path)
    monkeypatch.setattr("sentryfw.cli.commands.doctor.CONNTRACK_LOOSE", tmp_path / "loose")
    for name, value in (("loose", 1), ("nf_conntrack_count", 1000), ("nf_conntrack_max", 1000)):
        (tmp_path / name).write_text(f"{value}\n")
    done = host.sentryfw(*words)
    assert "connection tracking is full, 1000 of 1000 flows" in done.stdout + done.stderr


def test_without_connection_tracking_there_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conntrack_room, "SYSCTL", tmp_path)
    assert conntrack_room.read() is None
