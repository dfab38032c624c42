"""The queue rule, the two ways; rulesets/divert.nft is the other half."""

from typing import Final

from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.table import TABLE, Table

CHAIN: Final = "judge"
COMMENT: Final = "sentryfw: held until the verdict"


def append_target(table: Table, queue: int) -> None:
    """End chain judge with the xt NFQUEUE target, where the kernel lacks the queue statement."""
    table.append_rule(nl.queue_target_rule(TABLE, CHAIN, queue, COMMENT), "queue rule")


def active(table: Table) -> Divert | None:
    """The way that the installed table uses; None if its queue rule is missing."""
    last = list(table.rule_expressions(CHAIN))[-2:]
    if "target" in last:
        return "xt-nfqueue"
    return "queue" if "queue" in last else None
