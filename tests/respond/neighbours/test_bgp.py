"""Routes for a BGP daemon: a table of their own, a number that is not exceeded."""

from collections.abc import Iterator

import pytest

from sentryfw.config.neighbours import Bgp
from sentryfw.errors import ReactionFailed
from sentryfw.respond.neighbours.bgp import AnnouncedRoutes
from sentryfw.respond.route import RTPROT_SENTRYFW, Routes
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

TABLE = 5277
A, B, C, D = (f"198.18.0.{number}" for number in (2, 3, 4, 5))
SIX = "2001:2:0:1::/64"


@pytest.fixture
def made(namespace: Namespace) -> Iterator[AnnouncedRoutes]:
    routes = AnnouncedRoutes(Bgp(enabled=True, table=TABLE, max_routes=2))
    namespace.call(lambda: routes.sync(set()))  # its socket is made there
    yield routes
    routes.close()


def _announced(namespace: Namespace, table: int = TABLE) -> set[str]:
    found = set()
    ours = ("proto", str(RTPROT_SENTRYFW))
    for family in ("-4", "-6"):  # a table without routes is an error
        done = namespace.run("ip", family, "route", "show", "table", str(table), *ours)
        for kind, address, *_ in map(str.split, done.stdout.splitlines()):
            assert kind == "blackhole"
            found.add(address)
    return found


def test_routes_are_in_their_table_alone(namespace: Namespace, made: AnnouncedRoutes) -> None:
    assert made.apply({A: True, SIX: True}) == {}
    assert _announced(namespace) == {A, SIX}
    assert _announced(namespace, 254) == set()
    assert made.apply({A: False, SIX: False}) == {}
    assert _announced(namespace) == set()


def test_this_host_does_not_route_by_them(namespace: Namespace, made: AnnouncedRoutes) -> None:
    namespace.ip("route", "add", "198.18.0.0/24", "dev", "lo")
    made.apply({A: True})
    assert namespace.run("ip", "route", "get", A).returncode == 0


def test_what_exceeds_the_number_waits_until_another_has_ended(
    namespace: Namespace, made: AnnouncedRoutes
) -> None:
    asked: list[str] = []
    made.again = asked.append
    refused = made.apply({A: True, SIX: True, B: True, C: True})
    assert list(refused) == [B, C]
    assert "2 routes are announced" in refused[B]
    assert _announced(namespace) == {A, SIX}
    assert made.apply({A: True}) == {}  # which is there already
    made.apply({C: False})  # its block is over: it does not wait any more
    assert asked == []
    made.apply({A: False})
    assert asked == [B]
    assert made.apply({B: True}) == {}
    assert _announced(namespace) == {B, SIX}
    assert asked == [B]


def test_what_ends_makes_room_for_what_begins_with_it(
    namespace: Namespace, made: AnnouncedRoutes
) -> None:
    made.apply({A: True, B: True})
    assert made.apply({C: True, D: True, A: False, B: False}) == {}
    assert _announced(namespace) == {C, D}


def test_sync_keeps_what_is_there_and_what_others_made(
    namespace: Namespace, made: AnnouncedRoutes
) -> None:
    namespace.ip("route", "add", "blackhole", "198.18.9.9", "table", str(TABLE))
    made.apply({C: True})
    asked: list[str] = []
    made.again = asked.append
    made.sync({A, B, C})
    assert _announced(namespace) == {A, C}  # C stays, though B comes before it
    assert "198.18.9.9" in namespace.ip("route", "show", "table", str(TABLE))
    made.apply({C: False})
    assert asked == [B]


def test_a_route_that_others_removed_is_added_at_the_next_sync(
    namespace: Namespace, made: AnnouncedRoutes
) -> None:
    made.apply({A: True})
    namespace.ip("route", "flush", "table", str(TABLE))
    made.sync({A})
    assert _announced(namespace) == {A}


def test_a_route_of_another_program_is_reported(
    namespace: Namespace, made: AnnouncedRoutes
) -> None:
    namespace.ip("route", "add", "blackhole", A, "table", str(TABLE))
    assert made.apply({A: True, B: True}) == {A: f"route to {A}/32: File exists"}
    assert _announced(namespace) == {B}


def test_a_failure_to_read_is_raised_and_read_again(
    made: AnnouncedRoutes, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Routes, "routes", _fail)
        with pytest.raises(ReactionFailed, match="broken"):
            made.sync({A})
    made.sync({A})
    assert _announced(namespace) == {A}


def _fail(_: Routes) -> None:
    raise ReactionFailed("broken")
