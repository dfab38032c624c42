"""The process that asks CrowdSec's local API for decisions once, as a bouncer.

It reads the query as JSON from stdin, so that no key is in a command line. The end of a decision
whose source is held here makes it ask for all of them at once: another decision may go on.
"""

from collections.abc import Mapping
from contextlib import closing
from ipaddress import IPv6Network
from typing import Any, Final
from urllib.parse import urlencode

from sentryfw.engine.networks import Whole6
from sentryfw.respond.neighbours.connection import Connection, Refused, run
from sentryfw.respond.neighbours.decisions import (
    Bounds,
    HeldDecision,
    choose,
    compact,
    read,
    sources,
)
from sentryfw.respond.neighbours.stream import BouncerPlace, DecisionChanges, Query

PATH: Final = "/v1/decisions/stream"
SCOPES: Final = "ip,range,as,country"
"""Without these the API sends the first two alone, and others could not be counted."""
WRONG_KEY: Final = ": is the key a bouncer's? `cscli bouncers add sentryfw` makes one"


class DecisionStream(Connection):
    """A bouncer at the API."""

    def __init__(self, place: BouncerPlace) -> None:
        super().__init__(place.url, place.ca, place.timeout)
        self.headers["X-Api-Key"] = place.key
        self.hints = dict.fromkeys((401, 403), WRONG_KEY)

    def decisions(self, *, everything: bool) -> Mapping[str, Any]:
        """Return the lists "new" and "deleted": of all decisions, or since the last time."""
        # Without dedup=false a longer decision of strangers hides one by hand.
        query = {"startup": str(everything).lower(), "scopes": SCOPES, "dedup": "false"}
        answer = self.ask("GET", f"{PATH}?{urlencode(query)}", hook=compact)
        if not isinstance(answer, dict) or "new" not in answer:
            raise Refused("not an answer of CrowdSec's: it has no list of decisions")
        return answer


def answer(given: dict[str, Any]) -> dict[str, Any]:
    """Return what changes at the host that asks, as DecisionChanges has it."""
    query = Query(**given["query"])
    query = query._replace(
        held={address: HeldDecision._make(held) for address, held in query.held.items()},
        bounds=Bounds._make(query.bounds),
    )
    whole6 = Whole6(map(IPv6Network, given["whole"]))
    with closing(DecisionStream(BouncerPlace(**given["place"]))) as stream:
        changes = stream.decisions(everything=query.compare)
        if not query.compare and sources(changes.get("deleted"), whole6) & query.held.keys():
            query = query._replace(compare=True)
            changes = stream.decisions(everything=True)
    found, refused = read(changes["new"], whole6)
    choice = choose(found, query.held, query.lifted, query.bounds, compared=query.compare)
    return DecisionChanges(
        compared=query.compare, gone=choice.gone, new=choice.new, refused=refused,
        left_out=choice.left_out, is_short=choice.is_short,
    )._asdict()  # fmt: skip


def main() -> None:
    """Read a query, ask, and write what changes."""
    run(answer)


if __name__ == "__main__":
    main()
