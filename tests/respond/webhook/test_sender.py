"""A webhook: digests, urgent events, a server that is away, results and bounds."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.webhook import Webhook
from sentryfw.errors import ReactionFailed
from sentryfw.origin.model import Origin
from sentryfw.respond.webhook import sender as module
from sentryfw.respond.webhook.message import HttpRequest, Notice
from sentryfw.respond.webhook.post import Posted
from sentryfw.respond.webhook.sender import WebhookSender, read_token
from support.https import HttpsServer
from support.reactions import AT, INCIDENT, REFUSED, SIX, Certificate, Results
from support.waiting import wait_for

PROVEN = INCIDENT._replace(forgeable=False, address="198.18.0.9")
INSIDE = REFUSED._replace(inside=True, address="10.0.0.9")
ALARM = Notice("alarm", "another program keeps changing the table", AT)
MakeSender = Callable[..., WebhookSender]


class FakePost:
    """Keeps requests, and answers as a test wants."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.error = ""
        self.retry_after = 0.0

    def __call__(self, *, ca: str | None, timeout: float, **request: Any) -> Posted:
        assert timeout
        assert ca is None
        self.requests.append(HttpRequest(**request))
        return Posted(self.error, 500 if self.error else 200, self.retry_after)

    def bodies(self) -> list[str]:
        return [request.body for request in self.requests]


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> FakePost:
    fake = FakePost()
    monkeypatch.setattr(module, "post", fake)
    return fake


@pytest.fixture
def make(results: Results, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSender]:
    monkeypatch.setattr(module, "MIN_RETRY_S", 0.05)
    monkeypatch.setattr(module, "URGENT_GAP_S", 0.05)
    made: list[WebhookSender] = []

    def start(**given: Any) -> WebhookSender:
        table = {"url": "https://push.example.org/x", "shape": "ntfy", **given}
        made.append(WebhookSender(Webhook.model_validate(table), results))
        made[-1].start()
        return made[-1]

    yield start
    for sender in made:
        sender.stop(time.monotonic() + 0.5)


def test_the_everyday_waits_for_the_digest(make: MakeSender, posted: FakePost) -> None:
    sender = make(every=1)
    for incident in (INCIDENT, SIX, REFUSED):
        sender.put(incident)
    assert sender.waiting == 3
    assert posted.requests == []
    wait_for(lambda: posted.requests, "the digest")
    [request] = posted.requests
    assert request.headers["Priority"] == "3"
    assert len(request.body.splitlines()) == 3


@pytest.mark.parametrize("incident", [PROVEN, INSIDE])
def test_an_urgent_event_is_sent_at_once(make: MakeSender, posted: FakePost, incident: Any) -> None:
    sender = make(every="1d")
    sender.put(INCIDENT)
    sender.put(incident)
    wait_for(lambda: posted.requests, "sent")
    assert posted.requests[0].headers["Priority"] == "5"
    assert len(posted.requests[0].body.splitlines()) == 1
    assert incident.address in posted.requests[0].body
    assert sender.waiting == 1


def test_the_same_event_wakes_once(make: MakeSender, posted: FakePost) -> None:
    sender = make(every="1d")
    for _ in range(20):
        sender.notice(ALARM)
        sender.put(INSIDE)
    wait_for(lambda: len("\n".join(posted.bodies()).splitlines()) == 2, "both")
    sender.put(PROVEN)
    wait_for(lambda: PROVEN.address in posted.bodies()[-1], "another event")
    assert sum(body.count("alarm") for body in posted.bodies()) == 1
    assert sum(body.count(INSIDE.address) for body in posted.bodies()) == 1
    assert sender.waiting == 19  # refusals from inside, for the digest


def test_nothing_is_urgent_where_that_is_off(make: MakeSender, posted: FakePost) -> None:
    sender = make(urgent=False)
    sender.put(PROVEN)
    sender.notice(ALARM)
    assert sender.waiting == 1
    assert posted.requests == []


def test_immediate_sends_blocks_and_no_refusals(make: MakeSender, posted: FakePost) -> None:
    sender = make(when="immediate", throttle=0.01)
    sender.put(REFUSED)
    sender.put(INCIDENT)
    wait_for(lambda: posted.requests, "sent")
    assert posted.bodies()[0].count("blocked") == 1
    assert sender.waiting == 0


def test_what_failed_is_sent_later_once(
    make: MakeSender, posted: FakePost, results: Results, tmp_path: Path
) -> None:
    token = tmp_path / "t"
    token.write_text('token = "t"')
    token.chmod(0o600)
    posted.error = "the server answered 500"
    sender = make(
        shape="matrix", to="!r:example.org", credentials=str(token), when="immediate", throttle=0.01
    )
    sender.put(INCIDENT)
    wait_for(lambda: len(posted.requests) >= 2, "tried again")
    posted.error = ""
    wait_for(lambda: any(result.ok for result in results), "sent")
    assert len({request.url for request in posted.requests}) == 1  # one transaction
    assert "push.example.org: the server answered 500; tried again in" in results[0].detail
    assert (results[-1].reaction, results[-1].address) == ("webhook", INCIDENT.address)
    sender.put(SIX)
    wait_for(lambda: len({request.url for request in posted.requests}) == 2, "the next one")


def test_a_server_that_asks_to_wait_is_waited_for(
    make: MakeSender, posted: FakePost, results: Results
) -> None:
    posted.error, posted.retry_after = "the server answered 429", 600.0
    sender = make()
    sender.notice(ALARM)
    wait_for(lambda: results, "failed")
    assert results[0].detail.endswith("tried again in 600s")
    assert len(posted.requests) == 1
    assert sender.waiting == 1


def test_events_beyond_the_spool_are_counted(make: MakeSender, posted: FakePost) -> None:
    sender = make(every=1, spool=2)
    for _ in range(50):
        sender.put(INCIDENT)
    assert sender.waiting == 2
    wait_for(lambda: posted.requests, "sent")
    assert "... and 48 more" in posted.bodies()[0]


def test_an_old_failure_gives_no_way_to_newer_events(make: MakeSender, posted: FakePost) -> None:
    posted.error = "away"
    sender = make(spool=2, when="immediate", throttle=0.01)
    sender.put(INCIDENT)
    wait_for(lambda: len(posted.requests) >= 1, "failed")
    for _ in range(10):
        sender.put(SIX)
    posted.error = ""
    wait_for(lambda: any("more" in body for body in posted.bodies()), "sent")
    assert INCIDENT.address in posted.bodies()[-1]


def test_what_waits_when_the_daemon_ends_is_reported(
    make: MakeSender, posted: FakePost, results: Results
) -> None:
    sender = make()
    sender.put(INCIDENT)
    sender.stop(time.monotonic() + 1)
    assert posted.requests == []
    assert results[-1].detail == "1 not sent: the daemon ended"


@pytest.mark.parametrize(
    "text",
    ["", 'token = ""', "token = 7", 'key = "x"', 'token = "a\\nb"', f'token = "{"x" * 501}"'],
)
def test_a_token_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ReactionFailed, match="token"):
        read_token(path)


def test_a_token_that_cannot_be_read_is_a_failed_reaction(
    make: MakeSender, posted: FakePost, results: Results
) -> None:
    make(shape="gotify", credentials="/nonexistent/token").notice(ALARM)
    wait_for(lambda: results, "failed")
    assert "/nonexistent/token: No such file" in results[0].detail
    assert posted.requests == []


# --- a real server


@pytest.mark.parametrize(
    ("shape", "given", "path", "secret"),
    [
        ("json", {}, "/hook", "Authorization"),
        ("slack", {"url": "/services/{token}"}, "/services/s3cret-token", ""),
        ("ntfy", {}, "/hook", "Authorization"),
        ("gotify", {"url": "/"}, "/message", "X-Gotify-Key"),
        ("telegram", {"url": "/", "to": "-1001"}, "/bots3cret-token/sendMessage", ""),
        ("matrix", {"url": "/", "to": "!r:e.org"}, "/_matrix/client/v3/rooms/%21r%3Ae.org/send/",
         "Authorization"),
    ],
)  # fmt: skip
def test_each_shape_arrives_over_https(
    make: MakeSender, server: HttpsServer, certificate: Certificate, token: Path,
    results: Results, shape: str, given: dict[str, Any], path: str, secret: str,
) -> None:  # fmt: skip
    url = server.url(given.pop("url", "/hook"))
    sender = make(
        shape=shape, url=url, ca=str(certificate.certificate), credentials=str(token), **given
    )
    sender.put(PROVEN)
    wait_for(lambda: results, "the result")
    assert results[0].ok, results
    assert results[0].detail == "127.0.0.1: sent at once: 200"
    [received] = server.received
    assert received.path.startswith(path)
    assert "198.18.0.9" in received.body
    assert not secret or received.headers[secret].endswith("s3cret-token")


def test_nothing_is_sent_to_a_server_that_cannot_be_trusted(
    make: MakeSender, server: HttpsServer, token: Path, results: Results
) -> None:
    make(url=server.url("/{token}"), credentials=str(token)).put(PROVEN)
    wait_for(lambda: results, "the result")
    assert not results[0].ok
    assert "certificate verify failed" in results[0].detail
    assert "s3cret" not in results[0].detail
    assert server.received == []


def test_origins_are_looked_up_when_a_message_is_sent(results: Results, posted: FakePost) -> None:
    asked: list[list[str]] = []

    def find(sources: list[str]) -> dict[str, Origin]:
        asked.append(sources)
        return {INCIDENT.address: Origin("DE")}

    config = Webhook(url="https://push.example.org/x", shape="ntfy", every=0.1)
    sender = WebhookSender(config, results, origins=find)
    sender.put(INCIDENT)
    assert asked == []
    sender.start()
    try:
        wait_for(lambda: posted.requests, "the digest")
    finally:
        sender.stop(time.monotonic() + 0.5)
    assert asked == [[INCIDENT.address]]
    assert posted.bodies()[0].endswith("[DE]")
