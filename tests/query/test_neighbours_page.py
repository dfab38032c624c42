"""docs/false-alarms.md: each line that it proposes is valid configuration, and does something."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "false-alarms.md"
BLOCKS: Final = re.findall(r"^```toml\n(.*?)^```\n", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_valid_and_changes_the_defaults(block: str) -> None:
    assert parse(block.encode(), "false-alarms.md") != Config()
    for section, keys in tomllib.loads(block).items():
        made = getattr(parse(block.encode(), "false-alarms.md"), section)
        assert all(getattr(made, key) != getattr(getattr(Config(), section), key) for key in keys)


def test_the_page_names_every_command_that_it_needs() -> None:
    text = PAGE.read_text()
    assert len(BLOCKS) == 6
    for command in ("explain", "list --would-block", "unblock", "allow add", "doctor"):
        assert f"sentryfw {command}" in text
