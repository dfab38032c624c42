"""The first decoy that each source sent a request to, in bounded memory."""

from sentryfw.engine.correlate.requests import MAX_SOURCES, DecoyRequests
from sentryfw.engine.model import Source

TARGET, OTHER = (bytes(4), 6, 8080), (bytes(4), 6, 8081)


def test_a_second_decoy_within_the_window_shows() -> None:
    requests = DecoyRequests()
    found = [
        requests.is_second(Source(b"1234"), target, now, 300.0)
        for target, now in ((TARGET, 0.0), (TARGET, 1.0), (OTHER, 2.0), (OTHER, 400.0))
    ]
    assert found == [False, False, True, False]


def test_memory_is_bounded_and_the_oldest_gives_way() -> None:
    requests = DecoyRequests()
    for number in range(MAX_SOURCES + 1):
        requests.is_second(Source(number.to_bytes(4)), TARGET, 1.0, 300.0)
    assert len(requests) == MAX_SOURCES
    assert not requests.is_second(Source(bytes(4)), OTHER, 2.0, 300.0)
    assert requests.is_second(Source(MAX_SOURCES.to_bytes(4)), OTHER, 2.0, 300.0)
