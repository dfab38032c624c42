"""The event file: complete lines, its own rotation, and other programs that move it."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentryfw.errors import SentryError
from sentryfw.record.event_file import MIB, EventFile, EventLimits, is_low, place, rotated
from sentryfw.record.events import render_entry, render_note
from support.entries import BLOCK


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "events.json"


@pytest.fixture
def events(path: Path) -> Iterator[EventFile]:
    made = EventFile(path)
    yield made
    made.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


# --- the file


def test_every_event_is_one_line(events: EventFile, path: Path) -> None:
    made = [render_entry(BLOCK), render_note("fault", 1.0, error="two\nlines")]
    events.write(made)
    events.write(made[:1])
    assert _lines(path) == [*made, made[0]]


def test_events_are_appended_to_an_existing_file(path: Path) -> None:
    for number in (1, 2):
        file = EventFile(path)
        file.write([render_note("start", number)])
        file.close()
    assert len(_lines(path)) == 2


def test_lines_of_two_writers_stay_complete(path: Path) -> None:
    """One daemon is being replaced by another."""
    first, second = EventFile(path), EventFile(path)
    for number in range(50):
        (first, second)[number % 2].write([render_note("n", number, text="x" * 500)])
    first.close()
    second.close()
    assert len(_lines(path)) == 50


def test_the_file_is_for_owner_and_group(events: EventFile, path: Path) -> None:
    assert f"{path.stat().st_mode & 0o777:o}" == "640"


@pytest.mark.root
def test_a_full_disk_is_an_os_error() -> None:
    full = EventFile(Path("/dev/full"))
    try:
        with pytest.raises(OSError, match="No space left"):
            full.write([render_note("start", 1.0)])
    finally:
        full.close()


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_stay_complete_when_the_disk_fills_up_within_one(
    events: EventFile, path: Path
) -> None:
    """The event that did not fit is lost, not the next one."""
    before, after = render_note("before", 1.0), render_note("after", 3.0)
    events.write([before])
    with (
        _file_size_limit(path.stat().st_size + 10),
        pytest.raises(OSError, match=r"No space left|File too large"),
    ):
        events.write([render_note("too much", 2.0)])
    events.write([after])
    assert _lines(path) == [before, after]


# --- its own rotation


def _note(number: int) -> dict[str, Any]:
    return render_note("n", float(number), text="x" * 1000)


def test_a_full_file_is_renamed_and_the_oldest_removed(path: Path) -> None:
    file = EventFile(path, EventLimits(max_bytes=2500, max_files=3, min_free_bytes=0))
    for number in range(20):
        file.write([_note(number)])
    file.close()
    kept = [path, *(place(path, number) for number in (1, 2, 3))]
    assert sorted(path.parent.iterdir()) == sorted(kept)
    found = [event["timestamp"] for each in reversed(kept) for event in _lines(each)]
    assert found == [_note(number)["timestamp"] for number in range(20)][-len(found) :]
    assert all(each.stat().st_size <= 2500 for each in kept)


def test_no_file_is_kept_where_none_is_wanted(path: Path) -> None:
    file = EventFile(path, EventLimits(max_bytes=2500, max_files=0, min_free_bytes=0))
    for number in range(5):
        file.write([_note(number)])
    file.close()
    assert list(path.parent.iterdir()) == [path]
    assert _lines(path)[-1] == _note(4)


def test_one_batch_that_is_larger_than_the_file_may_be_is_written_all_the_same(path: Path) -> None:
    file = EventFile(path, EventLimits(max_bytes=100, max_files=2, min_free_bytes=0))
    file.write([_note(1), _note(2)])
    file.write([_note(3)])
    file.close()
    assert _lines(place(path, 1)) == [_note(1), _note(2)]
    assert _lines(path) == [_note(3)]


def test_fewer_files_are_kept_from_the_next_rotation_on(path: Path) -> None:
    file = EventFile(path, EventLimits(max_bytes=1500, max_files=5, min_free_bytes=0))
    for number in range(8):
        file.write([_note(number)])
    assert len(rotated(path)) == 5
    file.limits = EventLimits(max_bytes=1500, max_files=2, min_free_bytes=0)
    file.write([_note(8), _note(9)])
    file.close()
    assert sorted(rotated(path)) == [1, 2]


def test_files_of_other_names_are_not_ours(path: Path, events: EventFile) -> None:
    del events
    for name in ("events.json.1", "events-0.json", "events-x.json", "events-1.json.gz", "other"):
        (path.parent / name).touch()
    (path.parent / "events-12.json").touch()
    assert rotated(path) == {12: path.parent / "events-12.json"}
    assert rotated(path / "none") == {}


# --- other programs


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced"])
def test_a_file_that_another_program_moved_is_begun_again(
    path: Path, events: EventFile, how: str
) -> None:
    """logrotate does so, or an operator."""
    events.write([_note(1)])
    if how == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("events.json.1"))
    if how == "replaced":
        path.touch()
    events.write([_note(2)])
    events.write([_note(3)])
    assert _lines(path) == [_note(2), _note(3)]
    if how != "removed":
        assert _lines(path.with_name("events.json.1")) == [_note(1)]


def test_a_file_that_was_not_moved_stays_open(path: Path, events: EventFile) -> None:
    before = path.stat().st_ino
    for number in range(5):
        events.write([_note(number)])
    assert path.stat().st_ino == before
    assert len(_lines(path)) == 5


def test_a_link_in_its_place_is_not_followed(path: Path, events: EventFile, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(SentryError, match="symbolic links"):
        events.write([_note(1)])
    assert target.read_text() == ""


# --- free space


def test_nothing_is_written_below_the_floor(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EventFile(path, EventLimits(min_free_bytes=64 * MIB))
    _disk(monkeypatch, total=1024 * MIB, free=32 * MIB)
    with pytest.raises(OSError, match="too little free space"):
        file.write([_note(1)])
    _disk(monkeypatch, total=1024 * MIB, free=80 * MIB)
    file.write([_note(2)])
    file.close()
    assert _lines(path) == [_note(2)]


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [(10240, 63, True), (10240, 64, False), (100, 4, True), (100, 6, False)],
    ids=["low", "enough", "small-low", "small-enough"],
)
def test_a_small_disk_has_a_smaller_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, *, expected: bool
) -> None:
    """Otherwise an appliance with 60 MiB would never record anything."""
    _disk(monkeypatch, total=total * MIB, free=free * MIB)
    assert is_low(tmp_path, 64 * MIB) is expected
    assert not is_low(tmp_path, 0)


def test_a_directory_that_is_gone_is_not_low(tmp_path: Path) -> None:
    assert not is_low(tmp_path / "none", MIB)


def _disk(monkeypatch: pytest.MonkeyPatch, *, total: int, free: int) -> None:
    status = os.statvfs_result((4096, 4096, total // 4096, 0, free // 4096, 0, 0, 0, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: status)
