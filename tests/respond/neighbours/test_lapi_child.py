"""The process that carries out an order: answers without end, and nonsense."""

import json
import subprocess

import pytest

from sentryfw.respond.neighbours import connection
from sentryfw.respond.neighbours import lapi_child as module
from sentryfw.respond.neighbours.lapi import COMMAND, Order, Place
from support.lapi import FakeLapi

A = "198.18.0.2"


def test_an_endless_answer_is_not_read(
    lapi: FakeLapi, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER_BYTES", 100)
    lapi.broken = (200, b" " * 200)
    with pytest.raises(connection.Refused, match="more than 100 bytes"):
        module._carry_out(place, Order([A], [], []))


def test_the_child_writes_an_answer_for_nonsense() -> None:
    done = subprocess.run(COMMAND, input="{}", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"] == "not a valid answer (KeyError)"
    assert done.stderr == ""
