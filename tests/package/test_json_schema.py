"""The JSON Schema of the configuration: that of the model, and it judges as the model does."""

import json
import tomllib
from typing import Any, Final

import json_schema
import pages
import pytest

from sentryfw import config
from sentryfw.errors import ConfigError
from support.json_schema import faults

SCHEMA: Final[dict[str, Any]] = json.loads(json_schema.PLACE.read_text())


def test_the_file_is_that_of_the_model() -> None:
    made = json_schema.text()
    assert json_schema.PLACE.read_text() == made, "run: python packaging/json_schema.py"


def test_every_key_with_its_default_is_accepted() -> None:
    assert faults(SCHEMA, tomllib.loads(pages.keys())) == []


def test_every_key_can_be_completed() -> None:
    def keys(table: dict[str, Any], at: dict[str, Any]) -> None:
        at = SCHEMA["$defs"][at["$ref"].rpartition("/")[2]] if "$ref" in at else at
        for key, value in table.items():
            known = at.get("properties", {}).get(key) or at.get("additionalProperties")
            assert known, key
            if isinstance(value, dict):
                keys(value, known)

    keys(tomllib.loads(pages.keys()), SCHEMA)


def test_fields_have_their_docstrings() -> None:
    watch = SCHEMA["$defs"]["Watch"]
    assert watch["description"] == "Packets that are judged."
    assert watch["properties"]["interfaces"]["description"].startswith("Interfaces whose packets")


@pytest.mark.parametrize(
    "text",
    [
        '[detect]\nwindow = "1h30m"', "[detect]\nwindow = 90", '[detect]\nwindow = " 90 "',
        '[watch]\nlisted_tcp = [22, "6000-6010"]', '[never_block]\naddresses = ["2001:db8::/32"]',
        '[respond.command]\nargv = "/bin/logger $TARGET$"', "[detect.triggers]\nnull = 2",
        '[watch]\nforward = true\ninside = ["e*"]\nlisted_forward = [{ to = "::1", tcp = [22] }]',
        '[watch]\nforward = true\ninside = ["e"]\nlisted_forward = [{to = "::1", protocols = [4]}]',
    ],
)  # fmt: skip
def test_what_the_model_accepts_is_accepted(text: str) -> None:
    config.parse(text.encode(), "test")
    assert faults(SCHEMA, tomllib.loads(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[detect]\ntriger = 3", "[detect]\ntrigger = 0", "[detect]\ntrigger = true",
        '[detect]\nwindow = "soon"', "[detect]\nwindow = 0", '[detect]\nmode = "blocking"',
        "[detect.triggers]\nsin = 2", "[watch]\nlisted_tcp = [65536]",
        '[watch]\nlisted_tcp = ["a-b"]', '[never_block]\naddresses = ["office"]',
        '[watch]\ninterfaces = "eth0"', "[metrics]\nevery = 3601", "[block]\ntimeouts = []",
        "[paths]\nstate = 1", "[unknown]", "detect = 1",
    ],
)  # fmt: skip
def test_what_the_model_refuses_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        config.parse(text.encode(), "test")
    assert faults(SCHEMA, tomllib.loads(text)), text
