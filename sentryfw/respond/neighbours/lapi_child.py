"""The process that carries out one order at CrowdSec's local API.

It reads the order as JSON from stdin, so that no password is in a command line, logs in as a
machine, deletes decisions of this machine alone, and pushes alerts. It follows no redirect, uses no
proxy, and verifies certificates and names.
"""

import http.client
import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from sentryfw import __version__
from sentryfw.respond.neighbours.alert import ORIGIN, Alert
from sentryfw.respond.neighbours.lapi import Answer, Order, Place

AGENT: Final = f"SentryFW/{__version__}"
"""The API refuses a login without a version in it."""
MAX_ANSWER_BYTES: Final = 64 << 20
MAX_ERROR_CHARS: Final = 200


class Refused(Exception):
    """The API did not answer as expected."""


class Lapi:
    """A connection to the API. Raises OSError, HTTPException, ValueError, Refused."""

    def __init__(self, place: Place) -> None:
        parts = urlsplit(place.url)
        host, timeout = parts.hostname or "", place.timeout
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=place.ca)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
        self._base = parts.path.rstrip("/")
        self._machine = place.user
        self._headers = {"User-Agent": AGENT, "Content-Type": "application/json"}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def log_in(self, password: str) -> None:
        """Log in as the machine."""
        login = {"machine_id": self._machine, "password": password, "scenarios": []}
        token = self._ask("POST", "/v1/watchers/login", login)["token"]
        self._headers["Authorization"] = f"Bearer {token}"

    def own(self, **chosen: str) -> Iterator[tuple[str, int]]:
        """Yield source and id of each active decision of this machine."""
        query = {"origin": ORIGIN, "has_active_decision": "true", "limit": "0", **chosen}
        for alert in self._ask("GET", f"/v1/alerts?{urlencode(query)}") or ():
            if alert.get("machine_id") != self._machine:
                continue
            for decision in alert.get("decisions") or ():
                if decision["origin"] == ORIGIN:
                    yield str(decision["value"]), int(decision["id"])

    def delete(self, number: int) -> None:
        """Delete a decision."""
        self._ask("DELETE", f"/v1/decisions/{number}")

    def push(self, alerts: list[Alert]) -> None:
        """Push alerts with their decisions."""
        self._ask("POST", "/v1/alerts", alerts)

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        text = None if body is None else json.dumps(body).encode()
        self._connection.request(method, self._base + path, text, self._headers)
        answer = self._connection.getresponse()
        data = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise Refused(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if not 200 <= answer.status < 300:
            where = path.partition("?")[0]
            more = ": are user and password a machine's?" if path.endswith("login") else ""
            raise Refused(f"the server answered {answer.status} to {method} {where}{more}")
        return json.loads(data) if data else None


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


def main() -> None:
    """Read an order, carry it out, and write its end."""
    try:
        given = json.load(sys.stdin)
        answer = _carry_out(Place(**given["place"]), Order(**given["order"]))
    except Refused as error:
        answer = Answer(str(error))
    except TimeoutError:
        answer = Answer("no answer in time")
    except OSError as error:
        answer = Answer(str(error)[:MAX_ERROR_CHARS])
    except (http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        answer = Answer(f"not a valid answer ({type(error).__name__})")  # its text could quote it
    json.dump(answer._asdict(), sys.stdout)


if __name__ == "__main__":
    main()
