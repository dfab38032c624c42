"""[report]: what a scheduled report needs."""

import pytest

from sentryfw import config
from sentryfw.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "", '[report]\nevery = "1w"\ndirectory = "/var/lib/sentryfw/reports"',
        '[report]\nevery = "1d"\nmail = true\n[respond.mail]\nto = ["a@example.org"]',
        "[report]\nmail = true",
    ],
)  # fmt: skip
def test_a_place_is_enough(text: str) -> None:
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
def test_a_fault_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"[report]\n{text}\n".encode(), "test")
    assert fault in str(caught.value)
