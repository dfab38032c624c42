"""mode = "observe": nothing is blocked, and `list --would-block` shows what would be."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from sentryfw.cli.commands.would_block import would_block
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.query import blocks
from sentryfw.record.ledger import Ledger
from support.entries import REFUSAL
from support.lab import ATTACKER, UNLISTED, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
OBSERVE: Final = '[detect]\nmode = "observe"\n[block]\ntimeouts = ["1h", "4h"]'


def _listed(lab: Lab, daemon: Sentry, *words: str) -> list[dict[str, Any]]:
    sentryfw = daemon.command[0].parent / "sentryfw"
    done = lab.victim.run(sentryfw, "-c", daemon.config, "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("family", [4, 6])
def test_observing_blocks_nothing_and_lists_what_it_would_have(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(OBSERVE)
    lab.listen(family=family)
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family], "allowed")
    [item] = wait_for(lambda: _listed(lab, daemon, "--would-block"), "listed")
    assert list(lab.table.sets.blocked_sources()) == []
    assert lab.answers(ATTACKER[family])
    assert _listed(lab, daemon) == []
    assert (item["kinds"], item["targets"], item["offence"]) == (["syn"], 3, 1)
    assert (item["timeout_s"], item["reason"]) == (3600, "3 distinct targets")
    assert item["forgeable"] is True
    assert 3500 < item["expires_in_s"] <= 3600


def test_its_items_have_the_keys_of_the_list(daemon: Sentry) -> None:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        ledger.add([REFUSAL._replace(reason="observe")])
    [item] = would_block(daemon.settings)
    like = {**blocks.item(Blocked("198.18.0.2", 4, 1, 1, 0, 0), None), "host": ""}
    assert list(item) == list(like)


def test_offences_grow_as_they_would_have(daemon: Sentry) -> None:
    """One refusal while it would have been blocked, two after, and others for other reasons."""
    first = REFUSAL._replace(reason="observe", address="198.51.100.1")
    at = first.blocked_at
    with Ledger(daemon.settings.paths.ledger) as ledger:
        for later, reason in ((0, ""), (60, ""), (4000, ""), (5000, ""), (6000, "partner")):
            reason = reason or "observe"  # noqa: PLW2901 - the short form above
            ledger.add([first._replace(blocked_at=at + later, reason=reason)])
        ledger.add([REFUSAL])
    [item] = would_block(daemon.settings)
    assert (item["address"], item["offence"]) == ("198.51.100.1", 2)
    assert item["timeout_s"] == daemon.settings.block.timeouts[1]


def test_earlier_blocks_are_not_restored_while_observing(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("")
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    daemon.stop()
    lab.nft("flush ruleset")
    with daemon.config.open("a") as file:
        file.write(OBSERVE)
    daemon.start()
    assert list(lab.table.sets.blocked_sources()) == []
