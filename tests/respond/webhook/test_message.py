"""The shape of a message for each service, and text that would be read as markup."""

import json
from typing import Any

import pytest

from sentryfw.config.webhook import Webhook
from sentryfw.origin.model import Origin
from sentryfw.respond.webhook.message import (
    MAX_TEXT_CHARS,
    HttpRequest,
    Notice,
    WebhookMessage,
    request_of,
)
from support.reactions import AT, INCIDENT, REFUSED, SIX

TOKEN, PATH = "t0ken", "T0/B0/x y?z"
ALARM = Notice("alarm", "another program keeps changing the table (by ufw)", AT)
ONE = WebhookMessage("box", "sentryfw-1-2", [INCIDENT], 0, urgent=False)
MANY = WebhookMessage("box", "sentryfw-1-3", [INCIDENT, SIX, REFUSED, ALARM], 5, urgent=True)


def made(message: WebhookMessage = ONE, token: str = "", **given: Any) -> HttpRequest:
    table = {"url": "https://push.example.org/x/", **given}
    if token:
        table["credentials"] = "/etc/sentryfw/token"
    return request_of(Webhook.model_validate(table), token, message)


def body(request: HttpRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def test_titles_count() -> None:
    assert ONE.title == "SentryFW box: blocked 198.18.0.2"
    assert MANY.title == "SentryFW box: 2 blocked, 1 not blocked, 1 alerts"
    assert ONE._replace(events=[ALARM], host="b\u00f6x").title == "SentryFW b?x: alarm"


def test_the_text_has_a_line_for_each_event_and_counts_the_others() -> None:
    lines = MANY.text.splitlines()
    assert len(lines) == 5
    assert INCIDENT.sentence() in lines[0]
    assert lines[3].endswith("alarm: another program keeps changing the table (by ufw)")
    assert lines[4].startswith("... and 5 more")
    proven = INCIDENT._replace(forgeable=False, inside=True)
    assert "inside: blocked 198.18.0.2" in ONE._replace(events=[proven]).text
    assert ONE._replace(events=[proven]).text.endswith("(proven)")


def test_a_long_text_is_cut_between_lines() -> None:
    text = ONE._replace(events=[INCIDENT] * 500).text
    assert len(text.encode()) < MAX_TEXT_CHARS + 200
    shown = len(text.splitlines()) - 1
    assert f"... and {500 - shown} more" in text


def test_json_has_every_field() -> None:
    request = made(MANY, token=TOKEN)
    assert (request.method, request.url) == ("POST", "https://push.example.org/x/")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    found = body(request)
    assert found["host"] == "box"
    assert found["urgent"] is True
    assert found["lost"] == 5
    assert [incident["address"] for incident in found["incidents"]] == [
        "198.18.0.2", "2001:2:0:1::/64", "198.18.0.2",
    ]  # fmt: skip
    assert found["notices"] == [{"kind": "alarm", "text": ALARM.text, "at": AT}]


def test_a_token_in_the_url_is_in_no_header() -> None:
    url = "https://hooks.slack.com/services/{token}"
    request = made(token=PATH, shape="slack", url=url)
    assert request.url == "https://hooks.slack.com/services/T0/B0/x%20y%3Fz"
    assert "Authorization" not in request.headers
    assert body(request)["text"].startswith("SentryFW box: blocked 198.18.0.2\n")


def test_slack_gets_neither_links_nor_mentions() -> None:
    hostile = INCIDENT._replace(tool="<!channel> & <http://evil.example|x>", reason="<!channel> &")
    text = body(made(ONE._replace(events=[hostile]), shape="slack"))["text"]
    assert "<" not in text
    assert "&lt;!channel&gt; &amp;" in text


@pytest.mark.parametrize(("message", "priority"), [(ONE, "3"), (MANY, "5")])
def test_ntfy_has_title_and_priority_in_headers(message: WebhookMessage, priority: str) -> None:
    request = made(message, token=TOKEN, shape="ntfy")
    assert request.headers["Title"] == message.title
    assert request.headers["Priority"] == priority
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.body == message.text


def test_gotify_has_its_own_header() -> None:
    request = made(MANY, token=TOKEN, shape="gotify")
    assert request.url == "https://push.example.org/x/message"
    assert request.headers["X-Gotify-Key"] == TOKEN
    assert body(request) == {"title": MANY.title, "message": MANY.text, "priority": 8}


def test_telegram_has_the_token_in_its_path() -> None:
    table = {"shape": "telegram", "to": "-1001", "credentials": "/t"}
    request = request_of(Webhook.model_validate(table), "12:ab/..", ONE)
    assert request.url == "https://api.telegram.org/bot12:ab%2F../sendMessage"
    assert body(request)["chat_id"] == "-1001"


def test_matrix_repeats_a_transaction_with_its_number() -> None:
    request = made(token=TOKEN, shape="matrix", to="!a/b:example.org")
    assert request.method == "PUT"
    assert request.url == (
        "https://push.example.org/x/_matrix/client/v3/rooms/%21a%2Fb%3Aexample.org/send/"
        "m.room.message/sentryfw-1-2"
    )
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert body(request)["msgtype"] == "m.text"


def test_the_origin_of_a_source_is_in_the_line_and_in_ecs_names() -> None:
    known = ONE._replace(origins={INCIDENT.address: Origin("DE", 64500, "Example", ("Scanner",))})
    assert known.text.endswith(" [DE, AS64500 Example, Scanner]")
    [incident] = body(made(known))["incidents"]
    assert incident["source"] == {
        "ip": INCIDENT.ip, "domain": INCIDENT.host or None, "geo": {"country_iso_code": "DE"},
        "as": {"number": 64500, "organization": {"name": "Example"}}, "labels": ["Scanner"],
    }  # fmt: skip
    [incident] = body(made())["incidents"]
    assert incident["source"]["as"] == {"number": None, "organization": {"name": None}}
    assert MANY.sources == [INCIDENT.address, SIX.address]
