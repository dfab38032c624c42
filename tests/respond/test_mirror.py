"""A mirror: the last change counts, none is lost, and failures are tried again."""

import threading
import time

from sentryfw.errors import ReactionFailed
from sentryfw.respond.mirror import BlockMirror
from support.reactions import Results
from support.waiting import wait_for


class Place:
    """A list that a mirror keeps, with faults."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.calls: list[dict[str, bool]] = []
        self.broken = ""
        self.refused: dict[str, str] = {}
        self.go = threading.Event()
        self.go.set()

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        self.go.wait(10)
        self.calls.append(dict(changes))
        if self.broken:
            raise ReactionFailed(self.broken)
        for address, present in changes.items():
            if address not in self.refused:
                (self.there.add if present else self.there.discard)(address)
        return {address: self.refused[address] for address in changes if address in self.refused}

    def sync(self, addresses: set[str]) -> None:
        if self.broken:
            raise ReactionFailed(self.broken)
        self.there = set(addresses)


def _mirror(place: Place, results: Results, retry: float = 0.05) -> BlockMirror:
    made = BlockMirror("test", place.apply, place.sync, results, retry=retry)
    made.start()
    return made


def test_wanted_addresses_are_added_and_reported(results: Results) -> None:
    place = Place()
    mirror = _mirror(place, results)
    mirror.want("a", present=True)
    wait_for(lambda: place.there == {"a"}, "added")
    mirror.want("a", present=False)
    wait_for(lambda: place.there == set(), "removed")
    mirror.stop(time.monotonic() + 5)
    assert [(r.address, r.ok, r.detail) for r in results] == [
        ("a", True, "added"),
        ("a", True, "removed"),
    ]


def test_a_thousand_changes_during_a_slow_one_become_one(results: Results) -> None:
    place = Place()
    place.go.clear()
    mirror = _mirror(place, results)
    mirror.want("first", present=True)
    wait_for(lambda: mirror.waiting == 0, "one is at work")
    for number in range(1001):
        mirror.want("a", present=number % 2 == 0)
    mirror.want("b", present=True)
    place.go.set()
    wait_for(lambda: place.there == {"first", "a", "b"}, "the last word")
    mirror.stop(time.monotonic() + 5)
    assert place.calls[1:] == [{"a": True, "b": True}]


def test_a_failure_is_reported_once_and_tried_again(results: Results) -> None:
    place = Place()
    place.broken = "no space"
    mirror = _mirror(place, results)
    mirror.want("a", present=True)
    wait_for(lambda: len(place.calls) >= 3, "tried again")
    place.broken = ""
    wait_for(lambda: place.there == {"a"}, "done in the end")
    mirror.stop(time.monotonic() + 5)
    assert [(r.ok, r.detail) for r in results] == [
        (False, "no space; tried again every 0.05s"),
        (True, "added"),
    ]


def test_each_address_that_failed_is_reported(results: Results) -> None:
    place = Place()
    place.broken = "no space"
    mirror = _mirror(place, results, retry=60)
    for address in ("a", "b"):
        mirror.want(address, present=True)
        wait_for(lambda: any(r.address == address for r in results), "said")  # noqa: B023
    assert [result.address for result in results] == ["a", "b"]
    mirror.stop(time.monotonic() + 5)


def test_a_newer_change_replaces_one_that_failed(results: Results) -> None:
    place = Place()
    place.broken = "no space"
    mirror = _mirror(place, results, retry=0.3)
    mirror.want("a", present=True)
    wait_for(lambda: len(place.calls) == 1, "failed")
    place.broken = ""
    mirror.want("a", present=False)
    wait_for(lambda: len(place.calls) == 2, "tried again")
    mirror.stop(time.monotonic() + 5)
    assert place.calls[1] == {"a": False}


def test_a_sync_replaces_earlier_changes(results: Results) -> None:
    place = Place()
    place.there = {"old"}
    place.broken = "no space"
    mirror = _mirror(place, results, retry=0.3)
    mirror.want("a", present=True)
    wait_for(lambda: len(place.calls) == 1, "failed")
    place.broken = ""
    mirror.want_exactly({"b"})
    mirror.want("c", present=True)
    wait_for(lambda: place.there == {"b", "c"}, "these and no others")
    mirror.stop(time.monotonic() + 5)


def test_a_sync_that_failed_is_tried_again(results: Results) -> None:
    place = Place()
    place.broken = "locked"
    mirror = _mirror(place, results)
    mirror.want_exactly({"a"})
    wait_for(results.failures, "said")
    place.broken = ""
    wait_for(lambda: place.there == {"a"}, "done in the end")
    mirror.stop(time.monotonic() + 5)


def test_a_permanent_refusal_does_not_affect_other_addresses(results: Results) -> None:
    place = Place()
    place.refused = {"bad": "somebody else's"}
    mirror = _mirror(place, results)
    mirror.want("bad", present=True)
    mirror.want("good", present=True)
    wait_for(lambda: len(results) == 2, "both said")
    mirror.stop(time.monotonic() + 5)
    assert {(r.address, r.ok, r.detail) for r in results} == {
        ("bad", False, "somebody else's"),
        ("good", True, "added"),
    }
    assert mirror.waiting == 0
