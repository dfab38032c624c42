"""Zones in the configuration: what they mean, and what is refused."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.config.types import matches
from sentryfw.config.zone import MAX_ZONES
from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.model import ACCEPT, DROP
from sentryfw.errors import ConfigError


def _rules(text: str) -> tuple[ZoneRules, ...]:
    return parse(text.encode(), "test.toml").zones()


def _zone(name: str, *interfaces: str, rest: str = "") -> str:
    return f'[[zone]]\nname = "{name}"\ninterfaces = {list(interfaces)}\n{rest}\n'.replace("'", '"')


def _fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "test.toml")
    [fault] = caught.value.faults
    return str(fault)


def test_without_zones_there_is_the_default_one() -> None:
    config = Config()
    assert config.zones() == (ZoneRules("", (), config.horizons(), config.policy()),)


def test_a_zone_that_names_nothing_has_the_values_of_the_default_one() -> None:
    text = '[detect]\ntrigger = 5\nmode = "observe"\n[block]\ntimeouts = ["9m"]\n'
    default, zone = _rules(text + _zone("guest", "guest0"))
    assert zone == default._replace(name="guest", interfaces=("guest0",))


def test_a_zone_has_values_of_its_own() -> None:
    rest = (
        'mode = "block"\ntrigger = 8\nwindow = "1m"\nslow_trigger = 16\nslow_window = "2d"\n'
        'triggers = { udp = 40 }\ntimeouts = ["5m"]\nnever_block = ["192.0.2.0/24"]\n'
    )
    default, zone = _rules('[detect]\nmode = "observe"\n' + _zone("vpn", "wg*", rest=rest))
    assert zone.horizons[:4] == (8, 60.0, 16, 172800.0)
    assert (zone.horizons.triggers["udp"], zone.horizons.triggers["fin"]) == (40, 2)
    assert zone.horizons.triggers["icmp"] == 10
    assert (zone.policy.mode, default.policy.mode) == ("block", "observe")
    assert zone.policy.timeouts == (300.0,)
    assert [str(network) for network in zone.policy.spared] == ["192.0.2.0/24"]
    assert (zone.policy.unlisted, zone.is_inside) == (DROP, False)


def test_a_higher_trigger_is_never_above_the_slow_one() -> None:
    _, zone = _rules(_zone("lan", "lan0", rest='trigger = 30\nwindow = "3d"'))
    assert (zone.horizons.slow_trigger, zone.horizons.slow_window) == (30, 259200.0)


@pytest.mark.parametrize("mode", ["block", "observe"])
@pytest.mark.parametrize("common", ["block", "observe"])
def test_the_inside_of_old_configurations_is_a_zone(mode: str, common: str) -> None:
    text = (
        f'[detect]\nmode = "{common}"\ntrigger = 4\n[watch]\ninside = ["lan*"]\n'
        f'[inside]\ntrigger = 12\nmode = "{mode}"\n'
    )
    default, zone = _rules(text)
    assert (zone.name, zone.interfaces, zone.is_inside) == ("inside", ("lan*",), True)
    assert zone.horizons[:4] == (12, 300.0, 60, 86400.0)
    assert zone.horizons.triggers == {**default.horizons.triggers, "icmp": 12, "rst": 16}
    observes = "observe" in (mode, common)
    assert zone.policy == default.policy._replace(
        mode="observe" if observes else "block", unlisted=ACCEPT
    )


def test_the_inside_and_the_zone_that_check_shows_mean_the_same() -> None:
    old = _rules('[watch]\ninside = ["lan*"]')
    rest = (
        'inside = true\nmode = "observe"\ntrigger = 20\nwindow = "5m"\nslow_trigger = 60\n'
        'slow_window = "1d"\n'
    )
    assert _rules(_zone("inside", "lan*", rest=rest)) == old


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (_zone("a", "x0") + _zone("a", "y0"), "zone: two zones are named 'a': rename one"),
        (_zone("a", "x0") + _zone("b", "x0"), "zone: zone 'a' has x0 and zone 'b' has x0: an"),
        (_zone("a", "wg*") + _zone("b", "wg1"), "zone: zone 'a' has wg* and zone 'b' has wg1"),
        (_zone("a", "w*") + _zone("b", "wg*"), "zone: zone 'a' has w* and zone 'b' has wg*"),
        ('[watch]\ninside = ["lan0"]\n' + _zone("a", "lan*"), "zone: watch.inside has lan0 and zo"),
        ('[watch]\ninside = ["lan0"]\n' + _zone("inside", "x0"), "zone: 'inside' is the zone of"),
        (_zone("default", "x0"), 'zone.0.name: "default" is the zone of [watch] and [detect]'),
        (_zone("Guest", "x0"), "zone.0.name: write 1 to 32 lower-case letters"),
        (_zone("", "x0"), "zone.0.name: write 1 to 32 lower-case letters"),
        (_zone("a b", "x0"), "zone.0.name: write 1 to 32 lower-case letters"),
        ('[[zone]]\ninterfaces = ["x0"]', "zone.0.name: is missing"),
        ('[[zone]]\nname = "a"', "zone.0.interfaces: is missing"),
        ('[[zone]]\nname = "a"\ninterfaces = []', "zone.0.interfaces: must not be empty"),
        (_zone("a", "lo"), "zone.0.interfaces: lo is not watched: write others"),
        (_zone("a", "*"), "zone.0.interfaces.0: '*' is not an interface name"),
        (_zone("a", "x0", rest='mode = "blok"'), "zone.0.mode: must be 'block' or 'observe'"),
        (_zone("a", "x0", rest="triger = 3"), "zone.0.triger: unknown key, did you mean 'trigg"),
        ('[zone]\nname = "a"', "zone: "),
        (
            "".join(_zone(f"a{n}", f"x{n}") for n in range(MAX_ZONES + 1)),
            "zone: must not have more than 16 entries",
        ),
    ],
)
def test_what_is_wrong_with_a_zone_is_one_sentence(text: str, fault: str) -> None:
    assert _fault(text).startswith(fault)


_NAMES = st.text("abw01", min_size=1, max_size=3)
_PATTERNS = _NAMES | _NAMES.map(lambda name: f"{name}*")


def _any_interface(length: int = 4) -> Iterator[str]:
    names = [""]
    for _ in range(length):
        names = [name + letter for name in names for letter in "abw01"]
        yield from names


ALL = tuple(_any_interface())


@given(st.lists(st.lists(_PATTERNS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_an_interface_is_in_one_zone_or_the_configuration_is_refused(
    zones: list[list[str]],
) -> None:
    text = "".join(_zone(f"z{n}", *patterns) for n, patterns in enumerate(zones))
    held = [{name for name in ALL if matches(name, patterns)} for patterns in zones]
    shared = any(one & two for n, one in enumerate(held) for two in held[n + 1 :])
    try:
        parse(text.encode(), "test.toml")
    except ConfigError:
        assert shared
    else:
        assert not shared


_VALUES: dict[str, Any] = {
    "mode": st.sampled_from(["block", "observe"]),
    "inside": st.booleans(),
    "trigger": st.integers(1, 64),
    "slow_trigger": st.integers(1, 64),
    "window": st.integers(1, 10**6),
    "slow_window": st.integers(1, 10**6),
    "listed_tcp": st.lists(st.integers(0, 65535), max_size=4),
}


@given(st.fixed_dictionaries({}, optional=_VALUES), st.fixed_dictionaries({}, optional=_VALUES))
def test_the_values_of_a_zone_hold_and_change_no_other_zone(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    first = {"name": "one", "interfaces": ["a0"], **one}
    second = {"name": "two", "interfaces": ["b0"], **two}
    alone = Config.model_validate({"zone": [first]}).zones()
    both = Config.model_validate({"zone": [first, second]}).zones()
    assert both[:2] == alone
    assert both[0] == Config().zones()[0]
    assert both[1].horizons.trigger == one.get("trigger", 3)
    assert both[1].policy.mode == one.get("mode", "block")
    assert both[1].is_inside == one.get("inside", False)


def test_zones_are_shown_as_they_are_read() -> None:
    text = _zone("guest", "guest*", rest='trigger = 8\nwindow = "90s"\nlisted_tcp = ["80-90"]')
    config = parse(text.encode(), "test.toml")
    shown = config.model_dump(mode="json", exclude_none=True)
    assert shown["zone"][0]["window"] == "90s"
    assert Config.model_validate(shown) == config
    assert tomllib.loads(text)["zone"][0]["name"] == "guest"
