"""The zone of a packet by the number of its interface."""

import socket

import pytest

from sentryfw.daemon.watches.zone_interfaces import ZoneInterfaces
from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.engine import Engine
from support.transcript import HORIZONS, POLICY

NAMES = {1: "lo", 2: "eth0", 3: "wg7", 4: "guest0", 5: "guest00"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers that the kernel was asked for."""
    found: list[int] = []

    def name(number: int) -> str:
        found.append(number)
        if number not in NAMES:
            raise OSError("no such device")
        return NAMES[number]

    monkeypatch.setattr(socket, "if_indextoname", name)
    return found


def _engine(*zones: tuple[str, ...]) -> Engine:
    engine = Engine(HORIZONS, POLICY)
    rules = (ZoneRules(f"z{n}", names, HORIZONS, POLICY) for n, names in enumerate(zones, 1))
    engine.zones.use((ZoneRules("", (), HORIZONS, POLICY), *rules))
    return engine


@pytest.mark.parametrize(
    ("number", "zone"), [(2, 0), (3, 1), (4, 2), (5, 0), (0, 0), (99, 0)], ids=str
)
def test_an_interface_is_in_the_zone_that_names_it(
    asked: list[int], number: int, zone: int
) -> None:
    interfaces = ZoneInterfaces(_engine(("wg*",), ("guest0",)).zones)
    assert interfaces.zone(number) == zone
    assert interfaces.names[zone] == ("", "z1", "z2")[zone]


def test_without_zones_the_kernel_is_not_asked(asked: list[int]) -> None:
    assert not ZoneInterfaces(_engine().zones).has_zones
    assert asked == []


def test_a_name_is_looked_up_once_a_second(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    interfaces = ZoneInterfaces(_engine(("wg*",)).zones)
    assert [interfaces.zone(3) for _ in range(9)] == [1] * 9
    assert asked == [3]
    monkeypatch.setitem(NAMES, 3, "lan0")  # renamed
    interfaces.tick()
    assert interfaces.zone(3) == 0
    assert asked == [3, 3]


def test_a_reload_replaces_the_zones(asked: list[int]) -> None:
    interfaces = ZoneInterfaces(_engine(("wg*",)).zones)
    assert interfaces.zone(3) == 1
    interfaces.use(_engine(("guest0",), ("wg*",)).zones)
    assert interfaces.zone(3) == 2
