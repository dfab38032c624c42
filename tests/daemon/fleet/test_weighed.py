"""Sources that others reported with forgeable evidence."""

from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.model import parse_source

ONE, TWO = parse_source("192.0.2.7"), parse_source("2001:db8::/64")


def test_a_report_has_an_end_and_a_longer_one_stays() -> None:
    weighed = Weighed()
    assert not weighed
    weighed.add(ONE, 100)
    weighed.add(ONE, 50)
    weighed.add(TWO, 60)
    assert weighed
    assert weighed.holds(ONE, 99)
    assert not weighed.holds(ONE, 100)
    assert not weighed.holds(parse_source("192.0.2.8"), 0)
    weighed.expire(60)
    assert len(weighed) == 1
    weighed.discard(ONE)
    assert not weighed


def test_an_unblock_ends_it_and_is_kept_for_the_exchange() -> None:
    weighed = Weighed()
    weighed.add(ONE, 100)
    weighed.released(TWO)
    weighed.released(ONE)
    assert not weighed
    assert weighed.take_released() == [TWO, ONE]
    assert weighed.take_released() == []
    weighed.add(ONE, 100)
    weighed.released(None)
    assert not weighed
