"""The process that carries out one order at CrowdSec's local API.

It reads the order as JSON from stdin, so that no password is in a command line, logs in as a
machine, deletes decisions of this machine alone, and pushes alerts.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

from sentryfw.respond.neighbours.alert import Alert
from sentryfw.respond.neighbours.connection import Connection, run
from sentryfw.respond.neighbours.decisions import ORIGIN
from sentryfw.respond.neighbours.lapi import Answer, Order, Place


class Lapi(Connection):
    """A machine at the API."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.url, place.ca, place.timeout)
        self._machine = place.user

    def log_in(self, password: str) -> None:
        """Log in as the machine."""
        login = {"machine_id": self._machine, "password": password, "scenarios": []}
        self.hints = dict.fromkeys((401, 403), ": are user and password a machine's?")
        token = self.ask("POST", "/v1/watchers/login", login)["token"]
        self.headers["Authorization"] = f"Bearer {token}"
        self.hints = {}

    def own(self, **chosen: str) -> Iterator[tuple[str, int]]:
        """Yield source and id of each active decision of this machine."""
        query = {"origin": ORIGIN, "has_active_decision": "true", "limit": "0", **chosen}
        for alert in self.ask("GET", f"/v1/alerts?{urlencode(query)}") or ():
            if alert.get("machine_id") != self._machine:
                continue
            for decision in alert.get("decisions") or ():
                if decision["origin"] == ORIGIN:
                    yield str(decision["value"]), int(decision["id"])

    def delete(self, number: int) -> None:
        """Delete a decision."""
        self.ask("DELETE", f"/v1/decisions/{number}")

    def push(self, alerts: list[Alert]) -> None:
        """Push alerts with their decisions."""
        self.ask("POST", "/v1/alerts", alerts)


def _carry_out(place: Place, order: Order) -> Answer:
    with closing(Lapi(place)) as lapi:
        lapi.log_in(place.password)
        there, numbers = _compared(lapi, order.exactly)
        for address in order.delete:
            kind = "range" if "/" in address else "ip"
            numbers += [number for found, number in lapi.own(**{kind: address}) if found == address]
        for number in dict.fromkeys(numbers):
            lapi.delete(number)
        if order.push:
            lapi.push(order.push)
    return Answer("", sorted(there), len(numbers))


def _compared(lapi: Lapi, exactly: list[str] | None) -> tuple[set[str], list[int]]:
    """Return which of the sources have a decision of ours, and the ids of ours that have to go."""
    there: set[str] = set()
    numbers: list[int] = []
    if exactly is not None:
        wanted = set(exactly)
        for address, number in lapi.own():
            if address in wanted:
                there.add(address)
            else:
                numbers.append(number)
    return there, numbers


def _answer(given: dict[str, Any]) -> dict[str, Any]:
    return _carry_out(Place(**given["place"]), Order(**given["order"]))._asdict()


def main() -> None:
    """Read an order, carry it out, and write its end."""
    run(_answer)


if __name__ == "__main__":
    main()
