"""The queue rule, the two ways; rulesets/divert.nft is the other half."""

from typing import Final

from sentryfw.errors import KernelError
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.table import TABLE, Table

CHAIN: Final = "judge"
COMMENT: Final = "sentryfw: held until the verdict"


SHUT: Final = f'add rule inet {TABLE} {CHAIN} drop comment "sentryfw: until the target is there"\n'
"""Ends the script of an update where a transaction of its own must follow with the target: in
between nothing gets past unjudged, it is sent again."""


def append_target(table: Table, queue: int) -> None:
    """End chain judge with the xt NFQUEUE target, where the kernel lacks the queue statement."""
    table.append_rule(nl.queue_target_rule(TABLE, CHAIN, queue, COMMENT), "queue rule")


def open_with_target(table: Table, queue: int) -> None:
    """The same after SHUT, whose rule it takes the place of; that goes whatever happens."""
    handle = table.last_rule(CHAIN)
    try:
        body = nl.queue_target_rule(TABLE, CHAIN, queue, COMMENT)
        table.replace_rule(body, handle, "queue rule")
    except KernelError:
        table.delete_rule(CHAIN, handle)
        raise


def active(table: Table) -> Divert | None:
    """The way that the installed table uses; None if its queue rule is missing."""
    last = list(table.rule_expressions(CHAIN))[-2:]
    if "target" in last:
        return "xt-nfqueue"
    return "queue" if "queue" in last else None
