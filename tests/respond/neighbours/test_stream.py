"""Questions for decisions, asked by a child, against a stand-in with TLS."""

import json
import subprocess
import sys
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.errors import ReactionFailed
from sentryfw.respond.neighbours import stream as module
from sentryfw.respond.neighbours.decisions import Bounds, Decision, HeldDecision
from sentryfw.respond.neighbours.lapi import Place
from sentryfw.respond.neighbours.stream import BouncerPlace, DecisionChanges, Query, ask, read_key
from support.lapi import BOUNCER_KEY, FakeLapi

A, B = "192.0.2.1", "192.0.2.2"
BOUNDS = Bounds(max_s=14400.0, room=100, credit=100, renew_s=7200.0, reserve=10)
HELD = {A: HeldDecision(3000.0, by_hand=True)}
NEW = {
    "origin": "cscli", "type": "ban", "scope": "Ip", "value": B, "duration": "1h",
    "scenario": "abuse",
}  # fmt: skip


@pytest.fixture
def bouncer(place: Place) -> BouncerPlace:
    return BouncerPlace(place.url, place.ca, place.timeout, BOUNCER_KEY)


def asked(bouncer: BouncerPlace, *, compare: bool, held: Any = HELD) -> DecisionChanges:
    return ask(bouncer, Query(compare, held, [], BOUNDS), (IPv6Network("2001:db8:9::/64"),))


def test_everything_is_compared(lapi: FakeLapi, bouncer: BouncerPlace) -> None:
    lapi.changes = [{"new": [NEW, {**NEW, "value": "2001:db8:9::7"}], "deleted": None}]
    found = asked(bouncer, compare=True)
    assert found.compared
    assert found.gone == [A]
    assert found.new[0] == Decision(B, 3600.0, True, "cscli", "abuse")
    assert found.new[1].address == "2001:db8:9::7"
    [request] = lapi.requests
    assert "startup=true" in request
    assert "dedup=false" in request


def test_changes_alone_lift_nothing_that_did_not_end(lapi: FakeLapi, bouncer: BouncerPlace) -> None:
    lapi.changes = [{"new": [NEW], "deleted": [{**NEW, "value": "192.0.2.99"}]}]
    found = asked(bouncer, compare=False)
    assert (found.compared, found.gone, [one.address for one in found.new]) == (False, [], [B])
    assert "startup=false" in lapi.requests[0]


def test_the_end_of_a_decision_that_is_held_makes_it_compare_all(
    lapi: FakeLapi, bouncer: BouncerPlace
) -> None:
    ended = {"new": None, "deleted": [{**NEW, "value": A, "duration": "-1s"}]}
    lapi.changes = [ended, {"new": [{**NEW, "value": A}], "deleted": None}]
    found = asked(bouncer, compare=False)
    assert (found.compared, found.gone) == (True, []), "another decision goes on"
    lapi.changes = [ended, {"new": None, "deleted": None}]
    assert asked(bouncer, compare=False).gone == [A]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": "wrong"}, "the server answered 403 to GET /v1/decisions/stream: is the key a"),
        ({"ca": None}, "certificate verify failed"),
        ({"url": "https://127.0.0.1:1/"}, "Connection refused"),
    ],
)
def test_a_question_that_fails_is_one_sentence_without_the_key(
    bouncer: BouncerPlace, change: dict[str, str | None], error: str
) -> None:
    found = asked(bouncer._replace(**change), compare=True)
    assert error in found.error
    assert "\n" not in found.error
    assert "wrong" not in found.error
    assert (found.gone, found.new) == ([], [])


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ((500, b"oh"), "the server answered 500"), ((302, b""), "the server answered 302"),
        ((200, b"{"), "not a valid answer (JSONDecodeError)"), ((200, b""), "not an answer of"),
        ((200, b"[1]"), "not an answer of"), ((200, b'{"new": 7}'), "(ValueError)"),
        ((200, b'{"deleted": []}'), "not an answer of"),
        ((200, b'{"new": [], "deleted": 7}'), "(ValueError)"),
        ((200, b"[" * 100_000), "not a valid answer (RecursionError)"),
        ((200, b'{"value": 1, "scope": 2, "new": []}'), "not an answer of"),
    ],
)  # fmt: skip
def test_a_broken_answer_changes_nothing(
    lapi: FakeLapi, bouncer: BouncerPlace, broken: tuple[int, bytes], error: str
) -> None:
    lapi.broken = broken
    found = asked(bouncer, compare=False)
    assert error in found.error
    assert (found.compared, found.gone, found.new) == (False, [], [])


def test_of_a_huge_answer_no_more_is_handed_over_than_has_a_place(
    lapi: FakeLapi, bouncer: BouncerPlace
) -> None:
    many = [
        {**NEW, "value": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "origin": "CAPI"}
        for n in range(100_000)
    ]
    lapi.changes = [{"new": many, "deleted": None}]
    found = asked(bouncer, compare=True, held={})
    assert (found.error, len(found.new), found.left_out) == ("", 90, 99_910)


def test_a_child_that_ends_badly_is_an_error(
    bouncer: BouncerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMAND", [sys.executable, "-I", "-c", "print('x')"])
    found = asked(bouncer, compare=True)
    assert found.error == "the process that sends ended with status 0"


@pytest.mark.parametrize("text", ["", "key = 7", 'key = ""', 'key = "a\\r\\nHost: b"', 'key = "ü"'])
def test_a_key_is_a_word_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ReactionFailed, match=r'write key = "\.\.\."'):
        read_key(path)
    path.write_text('key = "abc"')
    assert read_key(path) == "abc"
    path.chmod(0o640)
    with pytest.raises(ReactionFailed, match="mode 0640"):
        read_key(path)


def test_the_daemon_does_not_import_what_the_child_needs() -> None:
    code = (
        "import sys, sentryfw.daemon.fleet.decision_polls, sentryfw.daemon.daemon;"
        "print('http.client' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_crowdsec_the_daemon_loads_nothing_for_it() -> None:
    code = "import sys, json, sentryfw.daemon.daemon; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name for name in json.loads(done.stdout) if "neighbours." in name or "poll" in name}
    assert loaded <= {"sentryfw.config.neighbours"}
