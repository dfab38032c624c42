"""Events: Suricata's keys with our data beside them, one whole line each."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.record.events import EventFile, render_entry, render_note, timestamp
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIX


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


def test_a_block_is_an_alert_in_the_shape_of_eve() -> None:
    event = render_entry(BLOCK)
    assert list(event) == [
        "timestamp", "event_type", "src_ip", "dest_ip", "dest_port", "proto", "alert", "sentryfw",
    ]  # fmt: skip
    assert event["timestamp"] == "2027-01-15T08:00:00.500000+0000"
    assert (event["event_type"], event["src_ip"]) == ("alert", "198.18.0.2")
    assert (event["dest_ip"], event["dest_port"], event["proto"]) == ("198.18.0.1", 22, "TCP")
    assert list(event["alert"]) == [
        "action", "gid", "signature_id", "rev", "signature", "category", "severity", "metadata",
    ]  # fmt: skip
    assert event["alert"]["action"] == "blocked"
    assert event["alert"]["signature"] == "SentryFW portscan (syn, udp)"


def test_a_block_explains_itself_under_our_own_key() -> None:
    assert render_entry(BLOCK)["sentryfw"] == {
        "id": "006651728a02120-d6a2bf8e",
        "address": "198.18.0.2",
        "family": 4,
        "scan": "portscan",
        "kinds": ["syn", "udp"],
        "targets": 3,
        "probes": 5,
        "first_seen": "2027-01-15T07:59:58.500000+0000",
        "blocked_at": "2027-01-15T08:00:00.500000+0000",
        "timeout_s": 3600.0,
        "offence": 1,
        "forgeable": True,
        "tool": "unknown",
        "reason": "3 distinct targets within the window",
        "sample": ["198.18.0.1 tcp/22", "198.18.0.1 tcp/23", "198.18.0.1 udp/53"],
        "blocked": True,
        "inside": False,
    }


@pytest.mark.parametrize(
    ("inside", "tactic", "technique"),
    [(False, "TA0043", "T1595.001"), (True, "TA0007", "T1046")],
    ids=["outside", "inside"],
)
def test_the_technique_is_that_of_the_side_it_came_from(
    tactic: str, technique: str, *, inside: bool
) -> None:
    alert = render_entry(BLOCK._replace(inside=inside))["alert"]
    assert alert["metadata"] == {
        "mitre_tactic_id": [tactic], "mitre_technique_id": [technique]
    }  # fmt: skip


def test_a_refusal_is_allowed_and_was_never_blocked() -> None:
    event = render_entry(REFUSAL)
    assert event["alert"]["action"] == "allowed"
    assert event["sentryfw"]["blocked_at"] is None
    assert event["sentryfw"]["reason"] == "partner"


def test_an_ipv6_source_is_shown_by_an_address_that_readers_of_eve_parse() -> None:
    event = render_entry(SIX)
    assert (event["src_ip"], event["dest_ip"]) == ("2001:2::", "2001:2:0:1::1")
    assert event["sentryfw"]["address"] == "2001:2::/64"


def test_signatures_tell_scans_apart() -> None:
    numbers = [render_entry(entry)["alert"]["signature_id"] for entry in (BLOCK, SIX)]
    assert len(set(numbers)) == 2
    assert 0 not in numbers


def test_a_block_by_hand_has_no_target() -> None:
    event = render_entry(BLOCK._replace(scan="", kinds=[], sample=[]))
    assert (event["dest_ip"], event["dest_port"]) == (None, None)
    assert event["alert"]["signature"].startswith("SentryFW block")


def test_a_note_carries_its_fields() -> None:
    assert render_note("flood", BLOCKED_AT, on=True) == {
        "timestamp": "2027-01-15T08:00:00.500000+0000",
        "event_type": "sentryfw",
        "sentryfw": {"event": "flood", "on": True},
    }


def test_a_timestamp_is_read_back_by_suricata_s_format() -> None:
    read = datetime.strptime(timestamp(BLOCKED_AT), "%Y-%m-%dT%H:%M:%S.%f%z")
    assert read == datetime.fromtimestamp(BLOCKED_AT, UTC)


@given(seconds=st.floats(0, 253_402_300_000))
def test_a_timestamp_is_what_strftime_makes_of_it(seconds: float) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert timestamp(seconds) == moment.strftime("%Y-%m-%dT%H:%M:%S.%f%z")


# --- the file


def test_every_event_is_one_line(events: EventFile, path: Path) -> None:
    made = [render_entry(BLOCK), render_note("fault", 1.0, error="two\nlines")]
    events.write(made)
    events.write(made[:1])
    assert _lines(path) == [*made, made[0]]


def test_events_are_appended_to_what_is_there(path: Path) -> None:
    for number in (1, 2):
        file = EventFile(path)
        file.write([render_note("start", number)])
        file.close()
    assert len(_lines(path)) == 2


def test_lines_of_two_writers_stay_whole(path: Path) -> None:
    """As of a daemon that is being replaced by another."""
    first, second = EventFile(path), EventFile(path)
    for number in range(50):
        (first, second)[number % 2].write([render_note("n", number, text="x" * 500)])
    first.close()
    second.close()
    assert len(_lines(path)) == 50


def test_the_file_is_for_owner_and_group(events: EventFile, path: Path) -> None:
    assert f"{path.stat().st_mode & 0o777:o}" == "640"


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


def test_lines_stay_whole_when_the_disk_fills_up_in_the_middle_of_one(
    events: EventFile, path: Path
) -> None:
    """The event that did not fit is lost, not the one after it."""
    before, after = render_note("before", 1.0), render_note("after", 3.0)
    events.write([before])
    with (
        _file_size_limit(path.stat().st_size + 10),
        pytest.raises(OSError, match=r"No space left|File too large"),
    ):
        events.write([render_note("too much", 2.0)])
    events.write([after])
    assert _lines(path) == [before, after]
