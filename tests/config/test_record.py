"""The section [record]."""

import pytest
from pydantic import ValidationError

from sentryfw.config.record import RecordSection


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
