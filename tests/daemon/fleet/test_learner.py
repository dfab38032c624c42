"""Elements of the other half of a pair, on a table in memory; with signatures: test_exchange.py."""

import errno
from pathlib import Path

import pytest

from sentryfw.daemon.fleet.learner import Learner
from sentryfw.fleet.admission import Admission, Member
from sentryfw.fleet.entry import Elements
from support.fake_table import FakeKernel, FakeTable

WALL = 1_800_000_000
GIVEN = Elements("fw1", 1, "peer4", ((bytes(4), 600),), WALL)


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel()
    made.install()
    return made


def learner(place: Path) -> Learner:
    admission = Admission("us", {"fw1": Member("full")}, lambda _: False)
    return Learner(place / "ledger.db", admission)


def test_elements_are_learnt_and_prolonged_only(tmp_path: Path, kernel: FakeKernel) -> None:
    ours, table = learner(tmp_path), FakeTable(kernel)
    assert ours.admit(table, GIVEN, WALL) == {"member": "fw1", "seq": 1, "effect": "learn"}
    ours.admit(table, GIVEN._replace(seq=2, elements=((bytes(4), 60),)), WALL)
    [found] = kernel.require("test").learnt["peer4"].values()
    assert found.timeout == 600
    ours.admit(table, GIVEN._replace(seq=3, elements=((bytes(4), 6000),)), WALL)
    [found] = kernel.require("test").learnt["peer4"].values()
    assert found.timeout == 6000


def test_a_kernel_or_a_ledger_that_fails_is_a_reason(tmp_path: Path, kernel: FakeKernel) -> None:
    kernel.refuse(errno.ENFILE)
    assert learner(tmp_path).admit(FakeTable(kernel), GIVEN, WALL) == "full"
    (tmp_path / "file").write_text("")
    assert learner(tmp_path / "file").admit(FakeTable(kernel), GIVEN, WALL) == "full"
