"""Findings in the words of an operator, short enough for a row of 80 columns. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sentryfw.text import counted, duration, in_zone

FOREVER: Final = "forever"
COUNT: Final = re.compile(r"[\d,]+ distinct targets?( within the (slow )?window)?")
"""The part of a reason that the number of targets repeats."""


def finding(item: Mapping[str, Any]) -> str:
    """Return what a block or a would-be block rests on; `item`: as `list --json` prints it."""
    confined = "confined: " if item.get("decision") == "confine" else ""
    if not item["scan"]:
        return f"{confined}{item['reason']}"
    tool = f" by {item['tool']}" if is_known(item["tool"]) else ""
    zone = in_zone(item.get("zone", ""))
    text = f"{confined}{item['scan']}{tool}{zone}: {', '.join(item['kinds'])}"
    rest = COUNT.sub("", item["reason"], count=1).strip(" ,")
    targets = counted(item["targets"], "target")
    return f"{text}, {targets}" + (f", {rest}" if rest and rest != "observe" else "")


def is_known(tool: str) -> bool:
    """Return whether the tool behind a scan was recognised."""
    return tool not in {"", "unknown"}


def left(item: Mapping[str, Any]) -> str:
    """Return how long a block lasts from now on."""
    return duration(item["expires_in_s"]) if item["timeout_s"] else FOREVER
