"""Requests that browsers send to decoys.

A finished handshake shows who came, not what for: three images on a web page make the browser of
its reader connect to a decoy. So a request of HTTP or a handshake of TLS is evidence
like a SYN, until the same source sends one to another decoy.

See docs/decisions.md: decoy-requests.
"""

from typing import Final

from sentryfw.engine.model import Source, Target

MAX_SOURCES: Final = 4096
"""Sources whose first request is remembered; the oldest gives way."""


class DecoyRequests:
    """The first decoy that each source sent a request to, within a window."""

    def __init__(self) -> None:
        self._first: dict[Source, tuple[Target, float]] = {}

    def __len__(self) -> int:
        return len(self._first)

    def is_second(self, source: Source, target: Target, now: float, window: float) -> bool:
        """Remember a request; return whether the source sent one to another decoy within `window`
        seconds. `now` is a clock value."""
        first = self._first.get(source)
        if first is not None and first[1] > now - window:
            return first[0] != target
        self._first.pop(source, None)
        if len(self._first) >= MAX_SOURCES:
            del self._first[next(iter(self._first))]
        self._first[source] = (target, now)
        return False
