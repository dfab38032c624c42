"""A connection to the API: its sentences about what is not an answer."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from sentryfw.respond.neighbours import connection as module
from sentryfw.respond.neighbours.connection import Connection, Refused, run
from sentryfw.respond.neighbours.lapi import Place
from support.lapi import FakeLapi


@pytest.fixture
def made(place: Place) -> Connection:
    return Connection(place.url, place.ca, place.timeout)


def test_an_answer_without_end_is_not_read(
    lapi: FakeLapi, made: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100)
    lapi.broken = (200, b" " * 99 + b"7")
    with closing(made):
        assert made.ask("GET", "/v1/alerts") == 7
        lapi.broken = (200, b" " * 200)
        with pytest.raises(Refused, match="more than 100 bytes"):
            made.ask("GET", "/v1/alerts")


def test_a_refusal_names_the_request_and_what_it_means(lapi: FakeLapi, made: Connection) -> None:
    made.hints = {418: ": is it tea?"}
    lapi.broken = (418, b"secret")
    with closing(made), pytest.raises(Refused, match=r"418 to GET /v1/alerts: is it tea\?$"):
        made.ask("GET", "/v1/alerts?token=secret")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Refused("no"), "no"),
        (TimeoutError(), "no answer in time"),
        (OSError("x" * 500), "x" * 200),
        (KeyError("secret"), "not a valid answer (KeyError)"),
        (RecursionError("secret"), "not a valid answer (RecursionError)"),
    ],
)
def test_a_process_ends_with_a_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def work(_: dict[str, Any]) -> dict[str, Any]:
        raise error

    written: Callable[[dict[str, Any]], dict[str, Any]] = work
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    run(written)
    assert json.loads(capsys.readouterr().out) == {"error": sentence}
