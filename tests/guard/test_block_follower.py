"""Blocks that other programs add and delete."""

import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.engine.model import Source, source_text
from sentryfw.errors import KernelError
from sentryfw.guard.block_follower import MAX_NAMED, BlockFollower
from sentryfw.guard.block_index import KnownRange
from sentryfw.netfilter.monitor import TableChange
from support.guarding import Guarded, change, element

KEY = bytes((198, 51, 100, 1))
NETWORK = KnownRange(bytes((203, 0, 113, 0)), bytes((203, 0, 114, 0)), 0.0, 0.0)


class Followed(Guarded):
    """A follower, and the sources that it released."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self.released: list[str] = []
        recorder: Any = self.recorder
        self.follower = BlockFollower(self.memory, self.thread, recorder, self._release)

    def _release(self, source: Source) -> None:
        self.released.append(source_text(source))

    def follow(self, made: TableChange, *, is_reported: bool = True) -> None:
        self.run(lambda: self.follower.follow(made, is_reported=is_reported))


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


def test_an_added_block_is_known(followed: Followed) -> None:
    followed.follow(change(element("block4", KEY, present=True)))
    assert followed.memory.ends.get(KEY) == (60.0, pytest.approx(time.monotonic() + 60, abs=5))
    assert followed.recorder.events == []


def test_a_deleted_block_is_unblocked(followed: Followed) -> None:
    followed.memory.ends[KEY] = (60.0, 60.0)
    followed.follow(change(element("block4", KEY, present=False)))
    assert KEY not in followed.memory.ends
    assert followed.released == followed.ledger.unblocked == ["198.51.100.1"]
    [(kind, fields)] = followed.recorder.events
    assert (kind, fields["by"], fields["addresses"]) == ("unblocked", "nft", ["198.51.100.1"])
    assert followed.follower.unblocked == 1


def test_an_event_names_some_addresses_and_counts_all(followed: Followed) -> None:
    keys = [number.to_bytes(4) for number in range(1, MAX_NAMED + 6)]
    for key in keys:
        followed.memory.ends[key] = (60.0, 60.0)
    followed.follow(change(*(element("block4", key, present=False) for key in keys)))
    [(_, fields)] = followed.recorder.events
    assert (fields["count"], len(fields["addresses"])) == (len(keys), MAX_NAMED)


def test_an_element_deleted_and_added_again_stays(followed: Followed) -> None:
    followed.memory.ends[KEY] = (60.0, 60.0)
    items = (element("block4", KEY, present=False), element("block4", KEY, present=True))
    followed.follow(change(*items))
    assert KEY in followed.memory.ends
    assert followed.released == []


def test_elements_of_other_sets_are_not_blocks(followed: Followed) -> None:
    followed.follow(change(element("partner4", KEY, present=True)))
    assert len(followed.memory) == 0


@pytest.mark.parametrize("name", ["confine4", "cut4"])
def test_a_deleted_confinement_is_not_restored(followed: Followed, name: str) -> None:
    added = element(name, bytes((198, 51, 100, 2)), present=True)
    followed.follow(change(added, element(name, KEY, present=False)))
    assert {key for _, key in followed.memory.lifted} == {KEY}
    assert followed.ledger.unblocked == ["198.51.100.1"]
    assert followed.recorder.events == []  # nothing was blocked
    followed.memory.forget_lifted(time.monotonic() + 1)
    assert followed.memory.lifted == {}


def test_a_deletion_of_an_uninstalled_table_is_not_reported(followed: Followed) -> None:
    followed.memory.ends[KEY] = (60.0, 60.0)
    followed.follow(change(element("block4", KEY, present=False)), is_reported=False)
    assert KEY not in followed.memory.ends
    assert followed.released == followed.recorder.events == []


def test_a_deleted_network_is_unblocked(followed: Followed) -> None:
    followed.memory.ranges["block_net4"] = [NETWORK]
    followed.follow(change(element("block_net4", NETWORK.first, present=False)))
    assert followed.ledger.unblocked == ["203.0.113.0/24"]
    assert followed.memory.active_networks(0.0) == set()


def test_networks_of_a_deleted_table_stay_known(followed: Followed) -> None:
    """The networks are restored with the table."""
    followed.memory.ranges["block_net4"] = [NETWORK]
    item = element("block_net4", NETWORK.first, present=False)
    followed.follow(change(item, taken=["table"]))
    assert followed.memory.active_networks(0.0) == {"203.0.113.0/24"}


def test_networks_stay_known_if_the_kernel_cannot_be_read(followed: Followed) -> None:
    followed.memory.ranges["block_net4"] = [NETWORK]
    followed.reader.fault = KernelError(2, "set block_net4")
    followed.follow(change(element("block_net4", NETWORK.first, present=False)))
    assert followed.memory.active_networks(0.0) == {"203.0.113.0/24"}
    assert followed.recorder.events == []
