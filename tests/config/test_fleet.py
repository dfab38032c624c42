"""[fleet]: members have a name, a key, and bounds."""

from typing import Any

import pytest
from pydantic import ValidationError

from sentryfw.config.fleet import Fleet

KEY = "ab" * 32


def test_without_a_name_there_is_no_fleet() -> None:
    assert Fleet() == Fleet(name="", members={})


def test_a_member_is_weighed_by_default() -> None:
    fleet = Fleet.model_validate({"name": "fw1", "members": {"fw2": {"key": KEY}}})
    member = fleet.members["fw2"]
    bounds = (member.trust, member.max_alive, member.per_minute, member.max_time)
    assert bounds == ("weigh", 2000, 60, 14400.0)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"members": {"fw2": {"key": KEY}}}, "need a name of this firewall"),
        ({"name": "fw2", "members": {"fw2": {"key": KEY}}}, "fw2 is this firewall"),
        ({"name": "fw1", "members": {"": {"key": KEY}}}, "a member has a name"),
        ({"name": "fw1", "agree": 1, "members": {"fw2": {"key": KEY}}}, "one member alone"),
        ({"name": "fw1", "agree": 2, "members": {"fw2": {"key": KEY}}}, "there are 1 members"),
        ({"name": "fw1", "agree": -1}, "agree"),
        ({"name": "FW 1"}, "is not a name"),
        ({"name": "fw1", "members": {"fw2": {"key": "ab"}}}, "64 hexadecimal digits"),
        ({"name": "fw1", "members": {"fw2": {"key": KEY, "trust": "all"}}}, "trust"),
        ({"name": "fw1", "members": {"fw2": {"key": KEY, "max_alive": 0}}}, "max_alive"),
        ({"name": "fw1", "members": {"fw2": {}}}, "key"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Fleet.model_validate(section)
