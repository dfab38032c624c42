"""Orders to CrowdSec's local API (LAPI), carried out by a process of their own, as a webhook's are.

See docs/decisions.md: webhook-process, lapi-own.
"""

from typing import Final, NamedTuple

from sentryfw.host import child
from sentryfw.respond.neighbours.alert import Alert

COMMAND: Final = child.command_of("sentryfw.respond.neighbours.lapi_child")
START_TIMEOUT_S: Final = 10.0
REQUESTS_TIMEOUT_S: Final = 60.0
"""Seconds for the requests of an order, besides the one that takes the longest."""


class Order(NamedTuple):
    """Changes to make, in this order."""

    exactly: list[str] | None
    """Sources that may have decisions of ours, all others are deleted; None: no comparison."""
    delete: list[str]
    """Sources whose decisions of ours are deleted."""
    push: list[Alert]


class Place(NamedTuple):
    """The API and the machine's credentials."""

    url: str
    ca: str | None
    timeout: float
    user: str
    password: str


class Answer(NamedTuple):
    """The end of an order."""

    error: str = ""
    """Empty after success."""
    there: list[str] = []  # noqa: RUF012 - of a tuple, never changed
    """Those of the sources in `exactly` that have a decision of ours."""
    deleted: int = 0


def carry_out(place: Place, order: Order) -> Answer:
    """Carry out an order, in a child; never raise for a failure of the child."""
    request = {"place": place._asdict(), "order": order._asdict()}
    timeout = place.timeout + START_TIMEOUT_S + REQUESTS_TIMEOUT_S
    return child.send(Answer, COMMAND, request, timeout)
