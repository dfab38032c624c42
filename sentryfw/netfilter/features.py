"""Features of this kernel, probed by a transaction that is never committed."""

import errno
from typing import Final, Literal, NamedTuple

from sentryfw.errors import KernelError, Unsupported
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import NLM_F_APPEND, NLM_F_CREATE
from sentryfw.netlink.socket import NfnetlinkSocket

Divert = Literal["queue", "xt-nfqueue"]
"""The way of packets into the queue: the nft statement, or the xt target through nft_compat."""

SCRATCH: Final = "sentryfw_probe"
"""A table that exists only inside the probing transaction."""


class Feature(NamedTuple):
    """A part of the kernel, and whether it is present."""

    name: str
    present: bool
    option: str
    """The kernel configuration option that provides it."""
    detail: str


def probe() -> list[Feature]:
    """Probe the features that SentryFW requires or prefers. Raise NoPrivilege without root."""
    wanted = {
        "queue statement": ("CONFIG_NFT_QUEUE", nl.queue_rule(SCRATCH, "c", 0, "")),
        "xt NFQUEUE target": (_COMPAT, nl.queue_target_rule(SCRATCH, "c", 0, "")),
        "socket expression": ("CONFIG_NFT_SOCKET", _expression("socket")),
        "fib expression": ("CONFIG_NFT_FIB_INET", _expression("fib")),
        "ct expression": ("CONFIG_NFT_CT", _expression("ct")),
        "limit expression": ("CONFIG_NFT_LIMIT", _expression("limit")),
    }
    table, *rules = _ask([rule for _, rule in wanted.values()])
    return [
        _feature("nftables inet tables", "CONFIG_NF_TABLES_INET", table),
        *(
            # A known expression without its attributes gives EINVAL, an unknown one ENOENT
            # (nf_tables_expr_parse, nft_target_select_ops).
            _feature(name, option, 0 if code == errno.EINVAL else code)
            for (name, (option, _)), code in zip(wanted.items(), rules, strict=True)
        ),
    ]


def pick_divert(features: list[Feature]) -> tuple[Divert, str]:
    """Choose the way into the queue, the statement if possible; return it and the reason.

    Raise Unsupported if the kernel has neither.
    """
    present = {feature.name: feature.present for feature in features}
    if present["queue statement"]:
        return "queue", "the kernel has the nft queue statement"
    if present["xt NFQUEUE target"]:
        return "xt-nfqueue", "the kernel lacks CONFIG_NFT_QUEUE; the xt NFQUEUE target is used"
    raise Unsupported(
        "this kernel can divert packets neither by the nft queue statement (CONFIG_NFT_QUEUE,"
        f" module nft_queue) nor by the xt NFQUEUE target ({_COMPAT}, modules nft_compat and"
        " xt_NFQUEUE): load one of the modules, or install a kernel that has them"
    )


def require(features: list[Feature]) -> Divert:
    """Return the way into the queue. Raise Unsupported if a feature of the rulesets is missing."""
    for feature in features:
        if not feature.present and feature.name not in _ALTERNATIVES:
            raise Unsupported(
                f"this kernel lacks the {feature.name} ({feature.option}): {feature.detail}"
            )
    return pick_divert(features)[0]


_ALTERNATIVES: Final = ("queue statement", "xt NFQUEUE target")
_COMPAT: Final = "CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE"


def _expression(name: str) -> bytes:
    return nl.rule(SCRATCH, "c", name, b"", "")


def _feature(name: str, option: str, code: int) -> Feature:
    detail = f"the kernel answers {KernelError(code, name)}" if code else "there"
    return Feature(name, not code, option, detail)


def _ask(rules: list[bytes]) -> list[int]:
    """Return the errno of a table and of each rule in it; 0 if the kernel accepts it.

    One transaction for all: the kernel takes 12 ms to revert one.
    """
    table = nl.text(nl.NFTA_TABLE_NAME, SCRATCH)
    chain = nl.text(nl.NFTA_CHAIN_TABLE, SCRATCH) + nl.text(nl.NFTA_CHAIN_NAME, "c")
    messages = [
        (nl.NFT_MSG_NEWTABLE, NLM_F_CREATE, table),
        (nl.NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain),
        *((nl.NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule) for rule in rules),
    ]
    with NfnetlinkSocket() as netlink:
        made, linked, *codes = netlink.rehearse(messages, "nftables inet tables")
    return [made or linked, *(made or linked or code for code in codes)]
