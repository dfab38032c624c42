"""Pushes to CrowdSec, deletions there, and changes that wait: without an API."""

import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.neighbours import Crowdsec
from sentryfw.errors import ReactionFailed
from sentryfw.respond.neighbours import crowdsec as module
from sentryfw.respond.neighbours.crowdsec import CrowdsecPush, read_login
from sentryfw.respond.neighbours.lapi import Answer, Order, Place
from support.reactions import INCIDENT, Results
from support.waiting import wait_for

A, B, C = (f"198.18.0.{number}" for number in (2, 3, 4))
PROVEN = INCIDENT._replace(forgeable=False)


class Api:
    """Notes orders, and answers each with the next of `answers`, then with success."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.places: list[Place] = []
        self.answers: list[Answer] = []

    def __call__(self, place: Place, order: Order) -> Answer:
        self.places.append(place)
        self.orders.append(order)
        return self.answers.pop(0) if self.answers else Answer()

    def pushed(self, number: int = -1) -> list[tuple[str, bool]]:
        """Source of each alert of an order, and whether it has a decision."""
        alerts = self.orders[number].push
        return [(alert["source"]["value"], bool(alert["decisions"])) for alert in alerts]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(module, "carry_out", made)
    monkeypatch.setattr(module, "GAP_S", 0.01)
    monkeypatch.setattr(module, "MIN_RETRY_S", 0.01)
    return made


@pytest.fixture
def login(tmp_path: Path) -> Path:
    path = tmp_path / "login"
    path.write_text('user = "sentryfw"\npassword = "pass"\n')
    path.chmod(0o600)
    return path


def _push(login: Path, results: Results, **config: Any) -> CrowdsecPush:
    given = {"url": "https://lapi.example:8080/", "credentials": str(login), **config}
    return CrowdsecPush(Crowdsec.model_validate(given), results)


def _want(push: CrowdsecPush, address: str, incident: Any = None) -> None:
    push.describe(address, 60.0, incident and incident._replace(address=address))
    push.want(address, present=True)


def _end(push: CrowdsecPush) -> None:
    push.stop(time.monotonic() + 5)


def test_a_proven_block_is_pushed_and_deleted(api: Api, login: Path, results: Results) -> None:
    push = _push(login, results)
    push.start()
    _want(push, A, PROVEN)
    wait_for(lambda: api.orders, "an order")
    assert api.pushed() == [(A, True)]
    assert api.places[0][:5] == ("https://lapi.example:8080/", None, 15.0, "sentryfw", "pass")
    push.want(A, present=False)
    wait_for(lambda: len(api.orders) == 2, "another order")
    assert api.orders[1] == Order(None, [A], [])
    _end(push)
    assert [(r.address, r.ok, r.detail) for r in results] == [
        (A, True, "lapi.example: decision pushed"), (A, True, "lapi.example: decision deleted"),
    ]  # fmt: skip


def test_forgeable_blocks_are_alerts_others_nothing(
    api: Api, login: Path, results: Results
) -> None:
    push = _push(login, results)
    for incident in (INCIDENT, PROVEN, INCIDENT._replace(action="refused")):
        push.put(incident)
    push.start()
    wait_for(lambda: api.orders, "an order")
    assert api.pushed() == [(INCIDENT.address, False)]
    _end(push)
    assert push.proven_only
    assert not push.ends_with_daemon


@pytest.mark.parametrize(("word", "proven_only"), [("off", True), ("decision", False)])
def test_forgeable_blocks_as_the_configuration_asks(
    login: Path, results: Results, word: str, *, proven_only: bool
) -> None:
    push = _push(login, results, forgeable=word)
    push.put(INCIDENT)
    assert (push.waiting, push.proven_only) == (0, proven_only)


def test_what_changed_while_the_api_was_away_is_pushed_as_it_ended(
    api: Api, login: Path, results: Results
) -> None:
    push = _push(login, results)
    api.answers = [Answer("no answer in time")]
    _want(push, A)
    _want(push, B)
    work = push._take()
    push.want(A, present=False)
    push._perform(work)  # fails
    assert results[-1].detail == ("lapi.example: no answer in time; 2 wait, tried again in 0.01s")
    push._perform(push._take())
    assert (api.orders[1].delete, api.pushed()) == ([A], [(B, True)])


def test_the_wait_after_failures_grows_and_starts_over(
    api: Api, login: Path, results: Results
) -> None:
    push = _push(login, results)
    api.answers = [Answer("x")] * 3
    for _ in range(3):
        push.put(INCIDENT)
        push._perform(push._take())
    assert [r.detail.rpartition(" ")[2] for r in results] == ["0.01s", "0.02s", "0.04s"]
    push._perform(push._take())
    assert push._retry_s == module.MIN_RETRY_S
    assert len(api.orders[-1].push) == 3


def test_a_restart_compares_and_pushes_what_is_missing(
    api: Api, login: Path, results: Results
) -> None:
    push = _push(login, results)
    push.restore({A: 60.0, B: 0.0})
    api.answers = [Answer("", [A], 7)]
    push._perform(push._take())
    assert api.orders[0] == Order([A, B], [], [])
    assert results[-1].detail == "lapi.example: 1 decisions are there, 7 deleted"
    push._perform(push._take())
    assert api.pushed() == [(B, True)]
    push.want_exactly(set())
    push._perform(push._take())
    assert api.orders[-1] == Order([], [], [])


def test_a_comparison_that_failed_is_repeated(api: Api, login: Path, results: Results) -> None:
    push = _push(login, results)
    push.restore({A: 60.0})
    api.answers = [Answer("x")]
    push._perform(push._take())
    push._perform(push._take())
    assert api.orders == [Order([A], [], [])] * 2
    assert len(results.failures()) == 1


def test_decisions_and_alerts_are_bounded(api: Api, login: Path, results: Results) -> None:
    push = _push(login, results, max_decisions=2, spool=1)
    for address in (A, B, C, A):
        _want(push, address)
    assert [r.address for r in results] == [C]
    assert "max_decisions" in results[0].detail
    push.put(INCIDENT)
    push.put(INCIDENT)
    assert results[-1].detail == "1 alerts wait"
    push.restore(dict.fromkeys((A, B, C), 60.0))
    assert results[-1].detail.startswith("1 blocks are left out")


def test_alerts_that_failed_give_way_to_no_newer_ones(
    api: Api, login: Path, results: Results
) -> None:
    push = _push(login, results, spool=2)
    api.answers = [Answer("x")]
    push.put(INCIDENT)
    push.put(INCIDENT)
    work = push._take()
    push.put(INCIDENT._replace(address=C))
    push._perform(work)
    assert push.waiting == 2
    assert results[0].detail == "2 alerts wait"


def test_many_changes_are_several_orders(
    api: Api, login: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ORDER_BATCH", 2)
    push = _push(login, results)
    push.start()
    for address in (A, B, C):
        _want(push, address)
    wait_for(lambda: sum(len(order.push) for order in api.orders) == 3, "all pushed")
    assert max(len(order.push) for order in api.orders) <= 2
    _end(push)


def test_what_is_not_sent_at_the_end_is_reported(login: Path, results: Results) -> None:
    push = _push(login, results)
    push.start()
    push._not_before = time.monotonic() + 60
    _want(push, A)
    _end(push)
    assert results[-1].detail == "1 not sent: the daemon ended"


def test_credentials_that_others_can_read_are_not_used(
    api: Api, login: Path, results: Results
) -> None:
    login.chmod(0o644)
    push = _push(login, results)
    push.put(INCIDENT)
    push._perform(push._take())
    assert "it must have mode 0600" in results[0].detail
    assert api.orders == []


@pytest.mark.parametrize("text", ["", 'user = "a"', 'user = "a"\npassword = 1', 'user = ""'])
def test_credentials_without_both_words_are_refused(login: Path, text: str) -> None:
    login.write_text(text)
    with pytest.raises(ReactionFailed, match="write user"):
        read_login(login)
