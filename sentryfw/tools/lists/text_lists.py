"""Lists in text: one address a line, and sets of nft."""

import re
from ipaddress import ip_address, summarize_address_range
from typing import Final

from sentryfw.config.types import IPNetwork
from sentryfw.tools.lists.entries import ParsedList, Reading, quoted

_PLAIN: Final = re.compile(r"\s*(\S+?)\s*(?:[#;].*)?")
_BLANK: Final = re.compile(r"\s*(?:[#;].*)?")
_ELEMENTS: Final = re.compile(r"\belements\s*=\s*\{")
_IGNORED: Final = re.compile(r'"[^"\n]*"|#[^\n]*')
_TIMES: Final = re.compile(r"\b(timeout|expires)\s+(\S+)")
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:ms|[wdhms]))+", re.ASCII)
_PART: Final = re.compile(r"(\d+)(ms|[wdhms])", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def plain_list(text: str) -> ParsedList:
    """Read one address or network a line; `#` and `;` begin comments."""
    reading = Reading()
    for number, line in enumerate(text.splitlines(), 1):
        if _BLANK.fullmatch(line):
            continue
        match = _PLAIN.fullmatch(line)
        if match is None:
            fault = f"{quoted(line)} is not one address or network"
            reading.refuse(f"line {number}", fault)
        else:
            reading.add(f"line {number}", match[1])
    return reading.found


def nft_list(text: str) -> ParsedList:
    """Read the elements of every set in the output of `nft list`, or in a file for `nft -f`."""
    reading = Reading()
    text = _IGNORED.sub(lambda match: " " * len(match[0]), text)
    blocks = list(_ELEMENTS.finditer(text))
    for block in blocks:
        end = text.find("}", block.end())
        if end < 0:
            reading.refuse(f"line {_line(text, block.start())}", "the elements have no closing }")
            break
        offset = block.end()
        for element in text[block.end() : end].split(","):
            if element.strip():
                start = offset + len(element) - len(element.lstrip())
                _add_element(reading, f"line {_line(text, start)}", element.strip())
            offset += len(element) + 1
    if not blocks and text.strip():
        reading.refuse("line 1", "there is no `elements = { ... }`")
    return reading.found


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _add_element(reading: Reading, place: str, element: str) -> None:
    what = element.split(maxsplit=1)[0]
    times = dict(_TIMES.findall(element))
    given = times.get("expires") or times.get("timeout")
    seconds = None if given is None else _seconds(given)
    if given is not None and seconds is None:
        reading.refuse(place, f"{quoted(given)} is not a time of nft")
        return
    if "-" not in what:
        reading.add(place, what, seconds)
        return
    networks = _range(what)
    if not networks:
        reading.refuse(place, f"{quoted(what)} is not a range of addresses")
    for network in networks:
        reading.add_network(place, network, seconds)


def _range(text: str) -> list[IPNetwork]:
    """Return the networks that make up a range, none if the text is not one."""
    first, _, last = text.partition("-")
    try:
        start, end = ip_address(first), ip_address(last)
        return list(summarize_address_range(start, end))
    except (ValueError, TypeError):
        return []


def _seconds(text: str) -> float | None:
    if not _DURATION.fullmatch(text):
        return None
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
