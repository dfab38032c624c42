"""A hub in memory, with the rules of Redis Streams that matter: increasing ids, all or nothing."""

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence

from sentryfw.fleet.link.stream_items import HubFault, MemberStream, Signed


class FakeHub:
    """One connection of one member; the streams are shared."""

    def __init__(self, own: str, shared: "FakeHub | None" = None) -> None:
        self.own = own
        self.streams: dict[str, list[Signed]] = {} if shared is None else shared.streams
        self.states: dict[str, bytes] = {} if shared is None else shared.states
        self.is_away = False
        self.connected = 0

    def connect(self) -> None:
        self._check()
        self.connected += 1

    def close(self) -> None:
        """There is nothing to close."""

    def last(self, members: Sequence[str]) -> dict[str, int]:
        self._check()
        return {name: self._top(name) for name in members}

    def add(self, entries: Sequence[Signed]) -> int:
        self._check()
        known = 0
        for item in entries:
            if item.seq <= self._top(self.own):
                known += 1
            else:
                self.streams.setdefault(self.own, []).append(item)
        return known

    def read(self, after: Mapping[str, int]) -> list[MemberStream]:
        self._check()
        found = []
        for name, number in after.items():
            held = self.streams.get(name, [])
            new = held[bisect.bisect([item.seq for item in held], number) :]
            if new:
                found.append(MemberStream(name, new, new[-1].seq, Counter()))
        return found

    def tell(self, text: str) -> None:
        self._check()
        self.states[self.own] = text.encode()

    def told(self, members: Sequence[str]) -> dict[str, bytes]:
        self._check()
        return {name: self.states[name] for name in members if name in self.states}

    def _top(self, name: str) -> int:
        held = self.streams.get(name, [])
        return held[-1].seq if held else 0

    def _check(self) -> None:
        if self.is_away:
            raise HubFault("no answer")
