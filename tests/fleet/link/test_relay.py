"""Both directions with a hub in memory: cuts, losses, restarts, and a hub that lies."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sentryfw.errors import NotRunning, SentryError
from sentryfw.fleet.link.back_off import HubBackOff
from sentryfw.fleet.link.daemon_side import OwnEntries
from sentryfw.fleet.link.link_report import LinkReport
from sentryfw.fleet.link.relay import TELL_INTERVAL_S, Receiving, Sending, positions_in, run
from sentryfw.fleet.link.stream_items import HubFault, MemberStream, Signed
from support.fake_hub import FakeHub
from support.fleet_entries import made


class FakeDaemon:
    """A daemon with an outbox, which keeps what it admitted."""

    def __init__(self, own: str) -> None:
        self.own = own
        self.outbox: list[Signed] = []
        self.last = 0
        self.admitted: dict[str, list[int]] = {"fw1": []}
        self.is_away = False
        self.part = 3

    def block(self, *numbers: int) -> None:
        self.outbox += [made(number, self.own) for number in numbers]
        self.last = max(self.last, *numbers)

    def outgoing(self, after: int) -> OwnEntries:
        self._check()
        found = [item for item in self.outbox if item.seq > after]
        return OwnEntries(found[: self.part], self.last)

    def positions(self) -> dict[str, int]:
        self._check()
        return {name: max(held, default=0) for name, held in self.admitted.items()}

    def incoming(self, entries: Sequence[Signed]) -> Iterator[dict[str, Any]]:
        self._check()
        for item in entries:
            if item.seq <= self.positions()["fw1"]:
                yield {"refused": "replay"}
            else:
                self.admitted["fw1"].append(item.seq)
                yield {"member": "fw1", "seq": item.seq, "effect": "block"}

    def _check(self) -> None:
        if self.is_away:
            raise NotRunning("the daemon is not running")


class Way:
    """A hub between two members, and the parts of the link of each that are tested."""

    def __init__(self) -> None:
        self.hub, self.other = FakeHub("fw1"), FakeHub("fw2")
        self.other.streams, self.other.states = self.hub.streams, self.hub.states
        self.here, self.there = FakeDaemon("fw1"), FakeDaemon("fw2")
        self.now = 0.0
        self.sent, self.received = LinkReport("hub"), LinkReport("hub")
        self.sending = self.new_sending()
        self.receiving = self.new_receiving()

    def new_sending(self) -> Sending:
        return Sending(self.hub, self.here, self.sent, "fw1")  # type: ignore[arg-type]

    def new_receiving(self) -> Receiving:
        clock = lambda: self.now  # noqa: E731
        return Receiving(self.other, self.there, self.received, clock)  # type: ignore[arg-type]

    def send(self, steps: int = 3) -> None:
        self.sending.begin()
        for _ in range(steps):
            self.sending.step()

    def receive(self) -> None:
        self.receiving.begin()
        self.receiving.step()


@pytest.fixture
def way() -> Way:
    return Way()


def test_entries_go_over_in_order_and_once(way: Way) -> None:
    way.here.block(5, 6, 7, 9)
    way.send()
    way.receive()
    assert way.there.admitted["fw1"] == [5, 6, 7, 9]
    way.send()
    way.receive()
    assert way.there.admitted["fw1"] == [5, 6, 7, 9]
    assert (way.sent.sent, way.sent.known) == (4, 0)


def test_after_a_cut_both_go_on_where_they_were(way: Way) -> None:
    way.here.block(1, 2)
    way.send()
    way.receive()
    for hub in (way.hub, way.other):
        hub.is_away = True
    way.here.block(*range(3, 12))
    with pytest.raises(HubFault):
        way.send()
    with pytest.raises(HubFault):
        way.receive()
    assert way.there.admitted["fw1"] == [1, 2]
    for hub in (way.hub, way.other):
        hub.is_away = False
    way.send(5)
    way.receive()
    assert way.there.admitted["fw1"] == list(range(1, 12))


def test_a_link_that_died_before_it_knew_doubles_nothing(way: Way) -> None:
    way.here.block(1, 2, 3)
    way.sending.begin()
    way.hub.add(way.here.outbox[:2])  # acknowledged to a link that was killed then
    way.sending.step()
    assert way.sent.known == 2
    assert [item.seq for item in way.hub.streams["fw1"]] == [1, 2, 3]


def test_what_a_hub_lost_is_sent_again(way: Way) -> None:
    way.here.block(1, 2, 3, 4)
    way.send()
    way.receive()
    del way.hub.streams["fw1"][2:]
    way.send()
    way.receive()
    assert [item.seq for item in way.hub.streams["fw1"]] == [1, 2, 3, 4]
    assert way.there.admitted["fw1"] == [1, 2, 3, 4]


def test_a_daemon_that_was_away_gets_everything_after_its_last_number(way: Way) -> None:
    way.here.block(1, 2, 3)
    way.send()
    way.there.is_away = True
    with pytest.raises(SentryError):
        way.receive()
    way.there.is_away = False
    way.receive()
    assert way.there.admitted["fw1"] == [1, 2, 3]


def test_a_hub_with_entries_in_our_name_that_we_never_made_is_named(way: Way) -> None:
    way.here.block(5)
    way.hub.streams["fw1"] = [made(900, "fw1")]
    with pytest.raises(HubFault, match="entry 900 of fw1, and this firewall has made 5 only"):
        way.send()


def test_a_hub_that_skips_a_number_leaves_a_gap_that_the_daemon_sees(way: Way) -> None:
    way.here.block(1, 2, 3)
    way.send()
    del way.hub.streams["fw1"][1]
    way.receive()
    assert way.there.admitted["fw1"] == [1, 3]


def test_items_that_cannot_be_entries_are_counted_and_passed(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = MemberStream("fw1", [], 9, Counter({"wrong-id": 2}))
    monkeypatch.setattr(way.other, "read", lambda _: [stream])
    way.receive()
    assert way.received.refused["fw1"] == {"wrong-id": 2}
    assert way.received.positions == {"fw1": 9}


def test_warnings_of_the_daemon_are_logged(
    way: Way, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    way.here.block(1)
    way.send()
    monkeypatch.setattr(way.there, "incoming", lambda _: iter([{"warning": "the set is full"}]))
    way.receive()
    assert "the set is full" in caplog.text


def test_the_effects_of_a_whole_part_are_counted(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    way.here.block(1)
    way.send()
    answers = [{"effects": {"block": 100, "refused: over": 28}}, {"effect": "block"}]
    monkeypatch.setattr(way.there, "incoming", lambda _: iter(answers))
    way.receive()
    assert way.received.effects == {"block": 101, "refused: over": 28}


def test_many_entries_are_carried_while_the_next_are_read(way: Way) -> None:
    way.here.part = 2000
    way.here.block(*range(1, 601))
    way.send()
    way.receive()
    way.here.block(601)
    way.send()
    way.receiving.step()
    assert way.there.admitted["fw1"] == list(range(1, 602)), "in order, each once"
    assert way.received.positions == {"fw1": 601}


def test_a_daemon_that_goes_while_many_are_carried_gets_them_again(way: Way) -> None:
    way.here.part = 2000
    way.here.block(*range(1, 601))
    way.send()
    way.receiving.begin()
    way.there.is_away = True
    way.receiving.step()
    with pytest.raises(SentryError, match="not running"):
        way.receiving.step()
    assert way.there.admitted["fw1"] == []
    way.there.is_away = False
    way.receive()
    way.receiving.step()
    assert way.there.admitted["fw1"] == list(range(1, 601))


def test_each_member_reports_how_far_it_has_read(way: Way) -> None:
    way.here.block(1, 2)
    way.send()
    way.receive()
    way.here.block(3)
    way.send()
    way.receive()
    assert json.loads(way.hub.states["fw2"])["read"] == {"fw1": 0}, "not at each step"
    way.now += TELL_INTERVAL_S
    way.receiving.step()
    assert json.loads(way.hub.states["fw2"])["read"] == {"fw1": 3}
    assert way.received.last == {"fw1": 3}


def test_without_members_there_is_nothing_to_read(way: Way) -> None:
    way.there.admitted = {}
    with pytest.raises(SentryError, match="sentryfw fleet join"):
        way.receive()


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"[]", b'{"read": 7}', b'{"read": {"fw1": "x"}}', b'{"read": {"fw1": 1e999}}',
     b'{"read": {"fw1": null}}', b"[" * 60_000,
     json.dumps({"read": {str(n): n for n in range(5000)}}).encode()],
)  # fmt: skip
def test_a_report_that_is_none_is_empty(text: bytes) -> None:
    assert positions_in(text) == {}


def test_a_report_has_numbers_by_members() -> None:
    assert positions_in(b'{"v": 1, "read": {"fw1": 7}}') == {"fw1": 7}


class _EndError(Exception):
    pass


def test_after_each_fault_it_waits_and_begins_again(way: Way) -> None:
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 3:
            way.hub.is_away = False
        if len(delays) == 5:
            raise _EndError

    way.here.block(1)
    way.hub.is_away = True
    real, steps = way.sending.step, 0

    def step() -> None:
        nonlocal steps
        steps += 1
        real()
        if steps % 4 == 0:
            raise HubFault("gone")

    way.sending.step = step  # type: ignore[method-assign]
    with pytest.raises(_EndError):
        run(way.sending, way.sent, HubBackOff(lambda: 1.0), sleep)
    assert delays == [0.25, 0.5, 1.0, 0.25, 0.25], "a success begins with the shortest delay again"
    assert way.sent.faults == {"no answer": 3, "gone": 2}
    assert way.hub.connected == 2
    assert [item.seq for item in way.hub.streams["fw1"]] == [1]
