"""Lists in JSON: indicators of STIX 2.1, decisions of CrowdSec."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from sentryfw.text import go_seconds
from sentryfw.tools.lists.entries import ParsedList, Reading, quoted

_TERM: Final = r"ipv[46]-addr\s*:\s*value\s*(?:=|ISSUBSET)\s*'([^'\\]*)'"
_PATTERN: Final = re.compile(rf"\[\s*{_TERM}(?:\s+OR\s+{_TERM})*\s*\]")
_VALUE: Final = re.compile(_TERM)
OWN_ORIGIN: Final = "sentryfw"


def stix_list(text: str, now: float) -> ParsedList:
    """Read the indicators of a bundle, or of a list of objects; `now`: seconds since the epoch."""
    reading = Reading()
    document = _load(reading, text)
    objects = document.get("objects") if isinstance(document, dict) else document
    if not isinstance(objects, list):
        if not reading.found.bad:
            reading.refuse("line 1", "not a STIX bundle: it has no list of objects")
        return reading.found
    for number, item in enumerate(objects, 1):
        if isinstance(item, dict) and item.get("type") == "indicator":
            _add_indicator(reading, f"object {number}", item, now)
    return reading.found


def _add_indicator(reading: Reading, place: str, item: dict[str, Any], now: float) -> None:
    pattern, until = item.get("pattern"), item.get("valid_until")
    if item.get("revoked") is True:
        reading.leave_out("revoked")
        return
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern.strip()):
        reading.refuse(place, f"{quoted(str(pattern))} is not a pattern of addresses alone")
        return
    seconds = None
    if until is not None:
        try:
            end = datetime.fromisoformat(str(until))
            seconds = (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            reading.refuse(place, f"valid_until: {quoted(str(until))} is not a time")
            return
    for value in _VALUE.findall(pattern):
        reading.add(place, value, seconds)


def crowdsec_list(text: str) -> ParsedList:
    """Read CrowdSec's decisions: `cscli decisions list -o json`, the local API's, or its stream."""
    reading = Reading()
    document = _load(reading, text)
    if isinstance(document, dict):
        document = document.get("new") or []
    if document is None and not reading.found.bad:
        return reading.found  # cscli writes null for none
    if not isinstance(document, list):
        if not reading.found.bad:
            reading.refuse("line 1", "not a list of decisions")
        return reading.found
    for place, decision in _decisions(document):
        if isinstance(decision, dict):
            _add_decision(reading, place, decision)
        else:
            reading.refuse(place, "not a decision")
    return reading.found


def _decisions(document: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each decision with its place; cscli has them in alerts."""
    for number, item in enumerate(document, 1):
        inner = item.get("decisions") if isinstance(item, dict) else None
        if isinstance(inner, list):
            yield from ((f"object {number}", decision) for decision in inner)
        elif not (isinstance(item, dict) and "decisions" in item):
            yield f"object {number}", item


def _add_decision(reading: Reading, place: str, decision: dict[str, Any]) -> None:
    kind, scope = decision.get("type"), str(decision.get("scope")).lower()
    value, duration = decision.get("value"), decision.get("duration")
    if kind != "ban" or scope not in ("ip", "range"):
        reading.leave_out("not a ban of an address or a network")
    elif decision.get("simulated") is True:
        reading.leave_out("simulated")
    elif decision.get("origin") == OWN_ORIGIN:
        reading.leave_out("blocks that SentryFW pushed there")
    else:
        seconds = None if duration is None else go_seconds(str(duration))
        if duration is not None and seconds is None:
            reading.refuse(place, f"{quoted(str(duration))} is not a duration")
        else:
            reading.add(place, str(value), seconds)


def _load(reading: Reading, text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reading.refuse(f"line {error.lineno}", f"not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        reading.refuse("line 1", f"not JSON: {type(error).__name__}")
    return None
