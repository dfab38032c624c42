"""Events about origins: after a block, of several sources at once, and bounded."""

import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.record.records import Located
from sentryfw.respond.origin import events as module
from sentryfw.respond.origin.events import OriginEvents
from support.reactions import INCIDENT, REFUSED, SIX, Results
from support.waiting import wait_for

GERMAN = Origin("DE", 64500, "Example Net")
Make = Callable[..., OriginEvents]


class Lookup:
    """A stand-in of the process that looks origins up."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.known: dict[str, Origin] = {INCIDENT.address: GERMAN, SIX.address: NOWHERE}
        self.learnt: list[Located] = []

    def __call__(self, addresses: list[str]) -> Mapping[str, Origin]:
        self.asked.append(addresses)
        return self.known


@pytest.fixture
def lookup() -> Lookup:
    return Lookup()


@pytest.fixture
def make(lookup: Lookup, results: Results, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[OriginEvents] = []

    def start(gap: float = 0.0) -> OriginEvents:
        monkeypatch.setattr(module, "GAP_S", gap)
        made.append(OriginEvents(lookup, lookup.learnt.append, results))
        made[-1].start()
        return made[-1]

    yield start
    for events in made:
        events.stop(time.monotonic() + 1)


def test_the_origin_of_a_blocked_source_is_reported(make: Make, lookup: Lookup) -> None:
    events = make()
    events.put(INCIDENT)
    wait_for(lambda: events.reporter.done == 1, "it is looked up")
    [found] = lookup.learnt
    assert (found.address, found.origin) == (INCIDENT.address, GERMAN.item())


def test_a_source_of_no_known_origin_has_no_event(make: Make, lookup: Lookup) -> None:
    events = make()
    events.put(SIX)
    wait_for(lambda: events.reporter.done == 1, "it is looked up")
    assert lookup.learnt == []


def test_a_source_that_was_not_blocked_is_not_looked_up(make: Make, lookup: Lookup) -> None:
    events = make()
    events.put(REFUSED)
    events.put(INCIDENT)
    wait_for(lambda: events.reporter.done == 1, "the other one is looked up")
    assert lookup.asked == [[INCIDENT.address]]


def test_sources_that_come_soon_after_share_a_process(make: Make, lookup: Lookup) -> None:
    events = make(gap=0.3)
    events.put(INCIDENT)
    wait_for(lambda: len(lookup.asked) == 1, "the first, at once")
    begin = time.monotonic()
    for incident in (INCIDENT, SIX, INCIDENT):
        events.put(incident)
    wait_for(lambda: len(lookup.asked) == 2, "the others")
    assert time.monotonic() - begin > 0.2
    assert lookup.asked[1] == [INCIDENT.address, SIX.address]


def test_sources_beyond_the_limit_are_counted(
    make: Make, lookup: Lookup, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SOURCES", 2)
    events = make(gap=60.0)
    events.put(INCIDENT)
    wait_for(lambda: len(lookup.asked) == 1, "the first, at once")
    for number in range(5):
        events.put(INCIDENT._replace(address=f"198.18.1.{number}"))
    assert (events.waiting, events.reporter.failed) == (2, 3)
    assert results[0].detail == "2 sources wait: no origins of more"
    events.stop(time.monotonic() + 1)
    assert results[-1].detail == "2 not looked up: the daemon ended"


def test_a_lookup_that_fails_is_reported(make: Make, lookup: Lookup, results: Results) -> None:
    lookup.known = {}
    events = make()
    events.put(INCIDENT)
    wait_for(lambda: results, "the failure")
    assert (results[0].reaction, results[0].address, results[0].ok) == (
        "origin", INCIDENT.address, False,
    )  # fmt: skip
    assert lookup.learnt == []
