"""The types of an explanation are those of its real parts."""

import time

from sentryfw.control.answers import fits
from sentryfw.query import explain
from sentryfw.query.explain_items import ExplainPart
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import ProbeTrace, Reaction
from support.entries import BLOCK, PROBE, REFUSAL
from support.fake_host import FakeHost
from support.fake_table import FakeTable


def test_every_part_fits(host: FakeHost) -> None:
    now = time.time()
    trace = [ProbeTrace(now, "syn", listed=False, target="198.18.0.1 tcp/22")]
    block = BLOCK._replace(blocked_at=now, trace=trace)
    with Ledger(host.settings.paths.ledger) as ledger:
        ledger.add(
            [block, REFUSAL._replace(blocked_at=now + 1, trace=trace)],
            [PROBE._replace(address=BLOCK.address, at=now + 2)],
        )
        ledger.add_reactions([Reaction("mail", BLOCK.address, True, "", now, 0.1)], [])
    host.add_block(BLOCK.address)
    table = FakeTable(host.kernel)
    found = host.inside(
        lambda: list(explain.parts(host.settings, table, BLOCK.address, print))  # type: ignore[arg-type]
    )
    assert {key for part in found for key in part} == set(ExplainPart.__annotations__)
    assert all(fits(part, ExplainPart) for part in found)
    assert not fits({"head": {}}, ExplainPart)
