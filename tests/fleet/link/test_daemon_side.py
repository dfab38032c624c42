"""Requests to the daemon: parts that fit a line of the control socket."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sentryfw.control.client import MAX_LINE_BYTES
from sentryfw.errors import SentryError
from sentryfw.fleet.link import daemon_side
from sentryfw.fleet.link.daemon_side import MAX_BATCH_ENTRIES, DaemonSide, batches, parts
from sentryfw.fleet.seal import SEAL_COUNT
from support.fleet_entries import made, sealed


def test_parts_fit_a_line_with_any_text_in_the_entries() -> None:
    short = [made(number) for number in range(1, 251)]
    long = [made(number, reason='"' * 200) for number in range(251, 501)]
    parts = list(batches([*short, *long]))
    assert [item.seq for part in parts for item in part] == list(range(1, 501))
    for part in parts:
        assert len(part) <= MAX_BATCH_ENTRIES
        items = [{"entry": item.entry, "signature": item.signature} for item in part]
        line = json.dumps({"do": "fleet-incoming", "entries": items})
        assert len(line) < MAX_LINE_BYTES
    assert max(map(len, parts)) == MAX_BATCH_ENTRIES


def test_entries_are_divided_by_their_seals() -> None:
    one, two = sealed([made(3), made(4)]), sealed([made(7), made(8), made(9)])
    found = list(parts([made(1), *one, made(5), *two, made(10)]))
    assert found == [[made(1)], one, [made(5)], two, [made(10)]]
    assert list(parts([])) == []


def test_a_part_that_is_not_here_as_a_whole_or_too_long_has_lost_its_seal() -> None:
    part = sealed([made(3), made(4), made(5)])
    assert list(parts(part[1:])) == [[made(4), made(5)]]
    long = sealed([made(number, reason='"' * 200) for number in range(1, 129)])
    [found] = parts(long)
    assert found[-1].seal is None


def test_a_part_goes_by_its_seal_or_by_its_signatures_where_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Mapping[str, Any]] = []
    holds = [True, False]

    def ask_stream(_: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        asked.append(request)
        if request["do"] == "fleet-part":
            yield {"effects": {"block": 2}} if holds.pop(0) else {"unsealed": "forged"}
        else:
            yield from ({"effect": "block"} for _ in request["entries"])

    monkeypatch.setattr(daemon_side, "ask_stream", ask_stream)
    daemon = DaemonSide(Path("/control"))
    part = sealed([made(1), made(2)])
    assert list(daemon.incoming(part)) == [{"effects": {"block": 2}}]
    assert list(daemon.incoming(part)) == [{"effect": "block"}, {"effect": "block"}]
    assert [request["do"] for request in asked] == ["fleet-part", "fleet-part", "fleet-incoming"]
    assert asked[0]["entries"] == [made(1).entry, made(2).entry]
    assert asked[2]["entries"][0]["signature"] == made(1).signature


def test_a_whole_part_of_usual_entries_fits_a_line() -> None:
    part = sealed([made(10**15 + number, reason="3 distinct targets within the window")
                   for number in range(SEAL_COUNT)])  # fmt: skip
    [found] = parts(part)
    assert found[-1].seal is not None
    seal = {"entry": found[-1].seal.text, "signature": found[-1].seal.signature}
    request = {"do": "fleet-part", "seal": seal, "entries": [item.entry for item in found]}
    assert len(json.dumps(request)) < MAX_LINE_BYTES


def test_without_entries_there_is_nothing_to_send() -> None:
    assert list(batches([])) == []


def test_the_answers_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, Any]] = []
    entry = {"seq": 8, "entry": "{}", "signature": "00"}

    def ask(_: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        asked.append(request)
        assert timeout > request["seconds"]
        return {"entries": [entry], "last": 9}

    def ask_stream(_: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        asked.append(request)
        if request["do"] == "fleet-positions":
            yield {"fw2": 7}

    monkeypatch.setattr(daemon_side, "ask", ask)
    monkeypatch.setattr(daemon_side, "ask_stream", ask_stream)
    daemon = DaemonSide(Path("/control"))
    found = daemon.outgoing(7)
    assert (found.last, found.entries[0].seq) == (9, 8)
    assert daemon.positions() == {"fw2": 7}
    assert list(daemon.incoming([made(1)])) == []
    assert [request["do"] for request in asked] == [
        "fleet-wait", "fleet-positions", "fleet-incoming",
    ]  # fmt: skip


def test_a_daemon_without_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_side, "ask_stream", lambda *_: iter(()))
    with pytest.raises(SentryError, match="no answer"):
        DaemonSide(Path("/control")).positions()
