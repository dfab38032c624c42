"""The requests of the control socket, on parts that are fakes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.daemon.requests import Actions, Requests
from sentryfw.engine.model import Probe, parse_source
from sentryfw.engine.track import Tracker
from sentryfw.errors import SentryError
from sentryfw.record.ledger import Ledger
from support.entries import BLOCK, BLOCKED_AT
from support.forge import packed

SCANNER: Final = "192.0.2.1"


class Asked:
    """Requests, and the calls that they made."""

    def __init__(self, config: Config | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        config = config or Config()
        self.tracker = Tracker(config.horizons())
        self.zone = SimpleNamespace(tracker=self.tracker, name="")
        parts: Any = SimpleNamespace(
            config=config,
            packet_path=SimpleNamespace(unblocked=self._log("unblocked")),
            guard=SimpleNamespace(reconcile=self._log("reconcile"), forget_all=self._forget_all),
            never_block=SimpleNamespace(refresh_soon=self._log("refresh_soon")),
            responder=SimpleNamespace(began=self._log("began")),
            engine=SimpleNamespace(zones=SimpleNamespace(all=[self.zone])),
            fleet=SimpleNamespace(
                outgoing=self._log("outgoing"),
                incoming=self._log("incoming"),
                part=self._log("part"),
                drop=self._log("drop"),
                release=self._log("release"),
                positions=lambda: {"fw1": 7},
                outbox=SimpleNamespace(wait=self._log("wait")),
            ),
        )
        status: Any = SimpleNamespace(as_dict=lambda: {"pid": 1})
        self.actions = Actions(lambda: status, lambda: "text", self._reload, self._log("stop"))
        self.requests = Requests(parts, self.actions)

    def _log(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))

    async def _forget_all(self) -> None:
        await asyncio.sleep(0)
        self.calls.append(("forget_all",))

    async def _reload(self) -> list[str]:
        self.calls.append(("reload",))
        return ["detect.trigger"]


@pytest.mark.parametrize(
    ("request_", "calls"),
    [
        ({"do": "release", "address": SCANNER}, [("unblocked", parse_source(SCANNER))]),
        ({"do": "blocked", "address": "2001:db8::/64", "timeout": 60},
         [("began", "2001:db8::/64", 60.0)]),
        ({"do": "blocked", "address": "2001:db8::1", "timeout": 60},
         [("began", "2001:db8::1", 60.0)]),
        ({"do": "reconcile"}, [("reconcile",)]),
        ({"do": "protect"}, [("refresh_soon",)]),
        ({"do": "stop"}, [("stop",)]),
    ],
    ids=lambda value: value.get("do") if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_change_is_made_and_answered_with_nothing(
    request_: dict[str, Any], calls: list[tuple[object, ...]]
) -> None:
    asked = Asked()
    assert asked.requests.answer(request_) == {}
    assert asked.calls == calls


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"do": "nonsense"}, "unknown request 'nonsense'"),
        ({"do": ["status"]}, "unknown request"),
        ({}, "unknown request None"),
        ({"do": "release", "address": "nonsense"}, "nonsense"),
        ({"do": "release"}, "None"),
        ({"do": "blocked", "address": SCANNER}, "a timeout in seconds"),
        ({"do": "blocked", "address": SCANNER, "timeout": "60"}, "a timeout in seconds"),
        ({"do": "sources", "top": 0}, "from 1 to 100"),
    ],
    ids=str,
)
def test_a_wrong_request_is_refused_and_changes_nothing(
    request_: dict[str, Any], message: str
) -> None:
    asked = Asked()
    with pytest.raises(SentryError, match=message):
        asked.requests.answer(request_)
    assert asked.calls == []


def test_status_is_answered_at_once() -> None:
    assert Asked().requests.answer({"do": "status"}) == {"pid": 1}


def test_metrics_and_config_are_streams_of_one_answer() -> None:
    requests = Asked().requests
    assert list(requests.answer({"do": "metrics"})) == [{"text": "text"}]
    [answer] = requests.answer({"do": "config"})
    assert answer["config"] == Config().model_dump(mode="json")


def test_the_scans_of_today_are_counted_from_the_ledger(tmp_path: Path) -> None:
    paths = Paths(state=tmp_path / "state", runtime=tmp_path, log=tmp_path)
    requests = Asked(Config(paths=paths)).requests
    assert list(requests.answer({"do": "today", "since": BLOCKED_AT})) == []
    with Ledger(paths.ledger) as ledger:
        ledger.add([BLOCK])
    [answer] = requests.answer({"do": "today", "since": BLOCKED_AT})
    assert (answer["blocked"], answer["last"]["address"]) == (1, BLOCK.address)
    with pytest.raises(SentryError, match="begin at a time"):
        list(requests.answer({"do": "today"}))


def test_sources_are_those_that_the_tracker_held_when_it_was_asked() -> None:
    asked = Asked()
    asked.tracker.observe(Probe(parse_source(SCANNER), (packed("198.18.0.1"), 6, 22), "syn"), 0.0)
    stream = asked.requests.answer({"do": "sources", "top": 5})
    asked.tracker.forget(parse_source(SCANNER))
    assert [item["address"] for item in stream] == [SCANNER]


@pytest.mark.parametrize(
    ("verb", "answer", "calls"),
    [
        ("reload", {"changed": ["detect.trigger"]}, [("reload",)]),
        ("release-all", {}, [("unblocked", None), ("forget_all",)]),
    ],
)
def test_a_change_that_takes_time_is_answered_when_it_is_done(
    verb: str, answer: dict[str, Any], calls: list[tuple[object, ...]]
) -> None:
    asked = Asked()

    async def ask() -> Any:
        reply: Any = asked.requests.answer({"do": verb})
        return await reply

    assert asyncio.run(ask()) == answer
    assert asked.calls == calls
