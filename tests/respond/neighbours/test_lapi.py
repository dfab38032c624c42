"""Orders to CrowdSec's local API, carried out by a child, against a stand-in with TLS."""

import subprocess
import sys

import pytest

from sentryfw.respond.neighbours import lapi as module
from sentryfw.respond.neighbours.alert import Alert, of_block
from sentryfw.respond.neighbours.lapi import Answer, Order, Place, carry_out
from support.lapi import FakeLapi
from support.reactions import AT

A, B, SIX = "198.18.0.2", "198.18.0.3", "2001:2:0:1::/64"


def _alert(address: str) -> Alert:
    return of_block(address, 60.0, AT, "a block").alert(decides=True)


def test_alerts_are_pushed_with_their_decisions(lapi: FakeLapi, place: Place) -> None:
    answer = carry_out(place, Order(None, [], [_alert(A), _alert(SIX)]))
    assert answer == Answer()
    assert lapi.sources == [("sentryfw", A), ("sentryfw", SIX)]


def test_only_our_own_decisions_are_deleted(lapi: FakeLapi, place: Place) -> None:
    for machine, origin, source in (
        ("sentryfw", "sentryfw", A), ("sentryfw", "sentryfw", A), ("sentryfw", "sentryfw", SIX),
        ("other", "sentryfw", A), ("sentryfw", "cscli", A), ("sentryfw", "sentryfw", B),
    ):  # fmt: skip
        lapi.add(machine, origin, source)
    assert carry_out(place, Order(None, [A, SIX], [])).deleted == 3
    assert lapi.sources == [("other", A), ("sentryfw", A), ("sentryfw", B)]


def test_a_comparison_deletes_what_is_too_much_and_reports_what_is_there(
    lapi: FakeLapi, place: Place
) -> None:
    for machine, source in (("sentryfw", A), ("sentryfw", B), ("other", SIX)):
        lapi.add(machine, "sentryfw", source)
    assert carry_out(place, Order([A, SIX], [], [])) == Answer("", [A], 1)
    assert lapi.sources == [("other", SIX), ("sentryfw", A)]


def test_nothing_is_deleted_for_a_source_without_decisions(lapi: FakeLapi, place: Place) -> None:
    assert carry_out(place, Order(None, [A], [])) == Answer()
    assert not [one for one in lapi.requests if one.startswith("DELETE")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"password": "wrong"}, "the server answered 401 to POST /v1/watchers/login"),
        ({"ca": None}, "certificate verify failed"),
        ({"url": "https://127.0.0.1:1/"}, "Connection refused"),
        ({"ca": "/nonexistent"}, "No such file"),
    ],
)
def test_an_order_that_fails_is_reported_without_the_password(
    place: Place, change: dict[str, str | None], error: str
) -> None:
    answer = carry_out(place._replace(**change), Order(None, [], [_alert(A)]))
    assert error in answer.error
    assert "wrong" not in answer.error


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ((500, b"oh"), "the server answered 500 to GET /v1/alerts"),
        ((302, b""), "the server answered 302"),
        ((200, b"{"), "not a valid answer (JSONDecodeError)"),
        ((200, b'{"a": 1}'), "not a valid answer (AttributeError)"),
        ((200, b'[{"machine_id": "sentryfw", "decisions": [{}]}]'), "(KeyError)"),
        ((200, b"[1]"), "(AttributeError)"),
    ],
)
def test_a_broken_answer_is_an_error(
    lapi: FakeLapi, place: Place, broken: tuple[int, bytes], error: str
) -> None:
    lapi.broken = broken
    assert error in carry_out(place, Order([A], [], [])).error


def test_a_child_that_cannot_start_or_end_is_an_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Order(None, [], [])
    monkeypatch.setattr(module, "COMMAND", ["/nonexistent"])
    assert "cannot start a process" in carry_out(place, nothing).error
    monkeypatch.setattr(module, "COMMAND", [sys.executable, "-I", "-c", "print('x')"])
    assert carry_out(place, nothing).error == "the process that sends ended with status 0"
    monkeypatch.setattr(
        module, "COMMAND", [sys.executable, "-I", "-c", "import time; time.sleep(99)"]
    )
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "REQUESTS_TIMEOUT_S", 0.1)
    assert carry_out(place._replace(timeout=0.1), nothing).error == "no end within 0.3s"


def test_the_daemon_does_not_import_what_the_child_needs() -> None:
    code = "import sys, sentryfw.respond.neighbours.crowdsec; print('http.client' in sys.modules)"
    command = [sys.executable, "-I", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
