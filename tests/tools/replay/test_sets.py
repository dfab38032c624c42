"""The sets of replay's model: what expires, what is full, which ports are not watched."""

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.tools.replay.run import rules
from sentryfw.tools.replay.sets import DynamicSet, Unwatched, by_port


def test_an_element_keeps_its_time_when_it_is_added_and_renews_it_when_updated() -> None:
    elements = DynamicSet(2, 10.0)
    elements.add(b"a", 0.0)
    elements.add(b"a", 5.0)
    assert not elements.has(b"a", 10.0)
    elements.update(b"b", 0.0)
    elements.update(b"b", 5.0)
    assert elements.has(b"b", 10.0)
    elements.delete(b"b")
    assert not elements.has(b"b", 10.0)


def test_a_full_set_takes_a_new_element_once_one_has_expired() -> None:
    elements = DynamicSet(1, 10.0)
    elements.update(b"a", 0.0)
    elements.update(b"b", 5.0)
    assert not elements.has(b"b", 5.0)
    elements.update(b"b", 10.0)
    assert elements.has(b"b", 15.0)
    assert len(elements) == 1


def test_ports_of_ranges_are_marked() -> None:
    flags = by_port([(22, 23), (65535, 65535)])
    assert [port for port, flag in enumerate(flags) if flag] == [22, 23, 65535]


def test_with_traps_all_but_the_traps_are_unwatched() -> None:
    traps = config.parse(b'[watch]\nmode = "traps"\ntrap_tcp = [23]\n', "test")
    sets = rules(traps).unwatched
    assert (sets.tcp[22], sets.tcp[23], sets.reset[23], sets.protocol) == (1, 0, 1, True)
    assert rules(Config()).unwatched == Unwatched()
