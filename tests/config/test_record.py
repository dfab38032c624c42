"""The sections [record] and [report]."""

import pytest
from pydantic import ValidationError

from sentryfw import config
from sentryfw.config.record import RecordSection
from sentryfw.errors import ConfigError


def test_the_defaults_keep_a_day_of_flood_small() -> None:
    made = RecordSection()
    assert made.events_mib * (made.events_files + 1) + made.ledger_mib < 120


@pytest.mark.parametrize(
    ("key", "value"),
    [("events_per_second", 0), ("events_mib", 0), ("events_files", -1), ("ledger_mib", 7),
     ("min_free_mib", -1), ("events_mib", "8M"), ("ledger_mib", True)],
)  # fmt: skip
def test_a_wrong_bound_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        RecordSection.model_validate({key: value})


def test_no_renamed_file_and_no_floor_may_be_wanted() -> None:
    made = RecordSection(events_files=0, min_free_mib=0)
    assert (made.events_files, made.min_free_mib) == (0, 0)


# --- the report


@pytest.mark.parametrize(
    "text",
    [
        "", '[report]\nevery = "1w"\ndirectory = "/var/lib/sentryfw/reports"',
        '[report]\nevery = "1d"\nmail = true\n[respond.mail]\nto = ["a@example.org"]',
        "[report]\nmail = true",
    ],
)  # fmt: skip
def test_a_report_needs_a_place(text: str) -> None:
    assert config.parse(text.encode(), "test").report.keep == 12


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('every = "1w"', "every needs directory, or mail = true"),
        ('every = "1w"\nmail = true', "report.mail: needs respond.mail.to"),
        ('every = "5m"\ndirectory = "/a"', "report.every: must be 3600"),
        ('every = "weekly"\ndirectory = "/a"', "is not a duration"),
        ('every = "1w"\ndirectory = "a"', "not an absolute path"),
        ("keep = 0", "report.keep: must be 1 or more"),
    ],
)
def test_a_fault_of_a_report_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"[report]\n{text}\n".encode(), "test")
    assert fault in str(caught.value)
