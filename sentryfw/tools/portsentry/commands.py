"""KILL_ROUTE and KILL_RUN_CMD: the purpose of a shell command of PortSentry, from its words."""

import re
import shlex
from pathlib import PurePosixPath
from typing import Final, Literal, NamedTuple

from pydantic import ValidationError

from sentryfw.config.respond import Command

FIREWALLS: Final = frozenset(
    (
        "iptables", "ip6tables", "iptables-nft", "iptables-legacy", "nft", "nftables", "ipset",
        "ipchains", "ipfwadm", "ipfw", "ipf", "pfctl", "ufw", "firewall-cmd", "shorewall", "csf",
    )
)  # fmt: skip
ROUTES: Final = re.compile(
    r"(?:\S*/)?(?:route\s+(?:-\S+\s+)*add|ip\s+(?:-\S+\s+)*r\w*\s+(?:add|replace))\b"
)
_PREFIXES: Final = ("sudo", "nohup", "exec", "nice", "doas")


class Purpose(NamedTuple):
    """The purpose of a command."""

    kind: Literal["firewall", "route", "command", "shell"]
    """`shell`: only a shell could run it."""
    why: str = ""


def purpose(text: str) -> Purpose:
    """Return what KILL_ROUTE did, or whether KILL_RUN_CMD can run without a shell."""
    program = _program(text)
    if program in FIREWALLS or re.search(r"\|\s*\S*\b(?:ipf|pfctl)\b", text):
        return Purpose("firewall", f"{program} blocked there; SentryFW blocks in its own nft sets")
    if ROUTES.match(text.strip()):
        return Purpose("route")
    try:
        Command.model_validate({"argv": text})
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        return Purpose("shell", why)
    return Purpose("command")


def _program(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    while words and (words[0] in _PREFIXES or words[0].startswith("-")):
        words = words[1:]
    return PurePosixPath(words[0]).name if words else ""
