"""Asking CrowdSec's local API for decisions, as a bouncer, by a process of its own.

The API's answer may be large, and hostile; the process hands over what changes here, and no more
than this host has place for.

See docs/decisions.md: webhook-process, crowdsec-member.
"""

from collections.abc import Mapping
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.errors import ReactionFailed
from sentryfw.host import child
from sentryfw.host.credentials import read_secrets
from sentryfw.respond.neighbours.decisions import Bounds, Decision, HeldDecision

COMMAND: Final = child.command_of("sentryfw.respond.neighbours.stream_child")
SPARE_S: Final = 60.0
"""Seconds for a large answer to arrive and to be read, and for a second one."""
MAX_KEY_CHARS: Final = 500


class BouncerPlace(NamedTuple):
    """The API, and a bouncer's key."""

    url: str
    ca: str | None
    timeout: float
    key: str


class Query(NamedTuple):
    """A question, with the state of this host."""

    compare: bool
    """Whether everything is asked for, not what has changed since the last time."""
    held: Mapping[str, HeldDecision]
    lifted: list[str]
    """Sources that were unblocked here by hand."""
    bounds: Bounds


class DecisionChanges(NamedTuple):
    """The changes that an answer makes here."""

    error: str = ""
    """Empty after success."""
    compared: bool = False
    """Whether the decisions here are those of the API after this."""
    gone: list[str] = []  # noqa: RUF012 - of a tuple, never changed
    new: list[Decision] = []  # noqa: RUF012
    refused: dict[str, int] = {}  # noqa: RUF012
    """Decisions that are not taken, by the reason."""
    left_out: int = 0
    """Decisions for which there is no place now."""
    is_short: bool = False
    """Whether one by hand is among those."""


def ask(place: BouncerPlace, query: Query, whole6: tuple[IPv6Network, ...]) -> DecisionChanges:
    """Ask, in a child; never raise for a failure of the child. `whole6`: networks whose addresses
    stand for themselves."""
    request = {
        "place": place._asdict(), "query": query._asdict(), "whole": [*map(str, whole6)],
    }  # fmt: skip
    found = child.send(DecisionChanges, COMMAND, request, place.timeout + SPARE_S)
    return found._replace(new=[Decision(*one) for one in found.new])


def read_key(path: Path) -> str:
    """Return the bouncer's key in a file. Raise ReactionFailed if others can read the file, or if
    it has none."""
    key = read_secrets(path).get("key")
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or not _is_header(key):
        raise ReactionFailed(f'{path}: write key = "...", as `cscli bouncers add` prints it')
    return key


def _is_header(key: str) -> bool:
    return key.isascii() and key.isprintable()
