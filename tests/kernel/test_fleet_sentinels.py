"""A hub of two servers; Sentinels put the second one in charge when the first is killed."""

import time
from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.fleet.link.hub import Hub, stream_of
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from support.fleet_lab import Firewall, FleetLab
from support.fleet_sentinels import SECOND, SentinelPair
from support.waiting import wait_for

pytestmark = pytest.mark.netns


def block(firewall: Firewall, *addresses: str) -> None:
    with Ledger(firewall.box.settings.paths.ledger) as ledger:
        ledger.add([manual_entry(address, 4, 3600.0, time.time()) for address in addresses])


def test_the_links_go_on_by_the_server_that_the_sentinels_name(tmp_path: Path) -> None:
    lab = FleetLab(tmp_path, others=(SECOND,))
    pair = SentinelPair(lab.hub)
    lab.at_end(pair.close)
    with lab as fleet:
        one, two = fleet.firewalls.values()
        pair.start()
        for firewall in (one, two):
            pair.use(firewall)
        block(one, "192.0.2.1")
        wait_for(lambda: two.blocked() == {"192.0.2.1"}, "by the first server", 30)
        first = {f"192.0.3.{number}" for number in range(1, 101)}
        fleet.hub.kill()
        block(one, *sorted(first))
        wait_for(pair.has_switched, "the Sentinels name the second server", 30)
        wait_for(lambda: two.blocked() == {"192.0.2.1", *first}, "by the second server", 60)

        fleet.hub.start()  # as a replica of the second one
        wait_for(pair.has_followed, "the first server follows the second", 30)
        block(two, "192.0.2.2")
        wait_for(lambda: one.blocked() == {"192.0.2.2"}, "the other way", 60)
        hub = Hub(config.load(one.box.config).fleet.hub, "fw1")
        one.box.namespace.call(hub.connect)
        [items] = hub._ask([("XREVRANGE", stream_of("fw1"), "+", "-", "COUNT", 1000)])
        hub.close()
        assert len({item[0] for item in items if item[0].endswith(b"-0")}) == 101, "each once"
        assert {event["gap"] for event in two.events("fleet")} == {0}
