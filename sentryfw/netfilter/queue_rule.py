"""The rule that queues packets, by the nft statement or by the xt target.

rulesets/queue.nft holds the statement; the target needs a netlink message.

See docs/decisions.md: shut-chain.
"""

from typing import Final

from sentryfw.errors import KernelError
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl

CHAIN: Final = "judge"
COMMENT: Final = "sentryfw: held until the verdict"
SHUT: Final = (
    f'add rule inet {TABLE} {CHAIN} drop comment "sentryfw: dropped until the target is added"\n'
)
"""The last rule in the script of an update that is followed by a transaction with the target: until
then packets are dropped, and their senders retransmit, instead of passing without a verdict."""


def append_target(table: Table, queue: int) -> None:
    """Append the xt NFQUEUE target to chain judge, if the kernel lacks the queue statement."""
    table.append_rule(nl.queue_target_rule(TABLE, CHAIN, queue, COMMENT), "queue rule")


def open_with_target(table: Table, queue: int) -> None:
    """Replace the rule of SHUT by the xt NFQUEUE target. If that fails, delete the rule."""
    handle = table.last_rule(CHAIN)
    try:
        body = nl.queue_target_rule(TABLE, CHAIN, queue, COMMENT)
        table.replace_rule(body, handle, "queue rule")
    except KernelError:
        table.delete_rule(CHAIN, handle)
        raise


def active(table: Table) -> Divert | None:
    """Return the way into the queue of the installed table; None if the queue rule is missing."""
    last = list(table.rule_expressions(CHAIN))[-2:]
    if "target" in last:
        return "xt-nfqueue"
    return "queue" if "queue" in last else None
