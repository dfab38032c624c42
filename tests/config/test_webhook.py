"""[[respond.webhook]]: what each shape needs, and URLs that would send a secret in the clear."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sentryfw import config
from sentryfw.config.webhook import Webhook
from sentryfw.errors import ConfigError

TOKEN = {"credentials": "/etc/sentryfw/token"}
HTTPS = {"url": "https://push.example.org/x"}


@pytest.mark.parametrize(
    "given",
    [
        HTTPS, {"url": "http://127.0.0.1:8080/hook"}, {"url": "http://[::1]/"},
        {"url": "http://localhost/a?b=c"}, {**HTTPS, "shape": "ntfy"},
        {"url": "https://hooks.slack.com/services/{token}", "shape": "slack", **TOKEN},
        {**HTTPS, "shape": "gotify", **TOKEN}, {"shape": "telegram", "to": "-1001", **TOKEN},
        {**HTTPS, "shape": "matrix", "to": "!room:example.org", **TOKEN},
    ],
)  # fmt: skip
def test_what_a_shape_needs_is_enough(given: dict[str, Any]) -> None:
    made = Webhook.model_validate(given)
    assert made.when == "digest"
    assert made.urgent


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, 'shape = "json" needs url'),
        ({"url": "http://push.example.org/"}, "write https"),
        ({"url": "http://127.0.0.1.example.org/"}, "write https"),
        ({"url": "http://localhost@example.org/"}, "write neither a user"),
        ({"url": "https://user:secret@example.org/"}, "write neither a user"),
        ({"url": "https:///x"}, "write a URL"),
        ({"url": "ftp://example.org/"}, "write a URL"),
        ({"url": "example.org/hook"}, "write a URL"),
        ({"url": "https://example.org:0/"}, "write a URL"),
        ({"url": "https://example.org:99999/"}, "write a URL"),
        ({"url": "https://[::1/"}, "write a URL"),
        ({"url": "https://example.org/\r\nX: y"}, "write printable ASCII"),
        ({"url": "https://example.org/a b"}, "write printable ASCII"),
        ({"url": "https://example.org/" + "x" * 2000}, "write printable ASCII"),
        ({"url": "https://example.org/{tokn}", **TOKEN}, "the only placeholder"),
        ({"url": "https://{token}.example.org/", **TOKEN}, "the only placeholder"),
        ({"url": "https://example.org/{token}"}, "needs credentials"),
        ({**HTTPS, "shape": "gotify"}, "needs credentials"),
        ({"shape": "telegram", **TOKEN}, "to is a chat"),
        ({**HTTPS, "to": "!room:example.org"}, "to is a chat"),
        ({**HTTPS, "shape": "pager"}, "shape"),
        ({**HTTPS, "spool": 0}, "spool"),
        ({**HTTPS, "timeout": "1h"}, "timeout"),
        ({**HTTPS, "token": "secret"}, "token"),
    ],
)
def test_a_fault_is_named(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Webhook.model_validate(given)


def test_a_fault_names_its_table() -> None:
    text = b'[[respond.webhook]]\nurl = "https://a.example/"\n[[respond.webhook]]\nulr = "x"\n'
    with pytest.raises(ConfigError, match=r"respond\.webhook\.1\.ulr: unknown key, .*'url'"):
        config.parse(text, "test")


def test_there_are_at_most_sixteen() -> None:
    text = b'[[respond.webhook]]\nurl = "https://a.example/"\n' * 17
    with pytest.raises(ConfigError, match=r"respond\.webhook"):
        config.parse(text, "test")


def test_the_page_has_every_key_with_its_default() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    section = page.read_text().partition("\n### Webhooks\n")[2]
    text = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert text is not None
    lines = [line.strip().removeprefix("# ") for line in text[0].splitlines()]
    [table] = tomllib.loads("\n".join(lines))["respond"]["webhook"]
    assert table.keys() == Webhook.model_fields.keys()
    made = Webhook.model_validate(table | {"to": None})
    for key, field in Webhook.model_fields.items():
        if field.default is not None and key != "shape":
            assert getattr(made, key) == field.default, key
