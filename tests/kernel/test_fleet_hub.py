"""Two firewalls with a real hub: publishing, a cut, kills, and who may write what."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fleet_lab import FleetLab
from support.waiting import wait_for

pytestmark = pytest.mark.netns

SCANNER = "192.0.2.7"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetLab]:
    with FleetLab(tmp_path) as made:
        yield made


def test_a_block_is_in_the_other_kernel_and_ends_there(fleet: FleetLab) -> None:
    one, two = fleet.firewalls.values()
    assert one.box.sentryfw("block", SCANNER, "2001:db8:7::/64").returncode == 0
    wait_for(lambda: two.blocked() == {SCANNER, "2001:db8:7::"}, "fw2 blocks both")
    assert one.blocked() == set()
    assert one.box.sentryfw("unblock", SCANNER).returncode == 0
    wait_for(lambda: two.blocked() == {"2001:db8:7::"}, "it ends with the member's block")
