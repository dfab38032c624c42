"""Changes at CrowdSec's local API (LAPI), made by a process of their own, as a webhook's are.

The child reads an order as JSON from stdin, so that no password is in a command line, logs in as a
machine, deletes decisions of this machine alone, and pushes alerts. It follows no redirect, uses no
proxy, and verifies certificates and names. See docs/decisions.md: webhook-process, lapi-own.
"""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from sentryfw import __version__
from sentryfw.respond.neighbours.alert import ORIGIN, Alert

COMMAND: Final = [sys.executable, "-I", "-m", "sentryfw.respond.neighbours.lapi"]
AGENT: Final = f"SentryFW/{__version__}"
"""The API refuses a login without a version in it."""
START_TIMEOUT_S: Final = 10.0
REQUESTS_TIMEOUT_S: Final = 60.0
"""Seconds for the requests of an order, besides the one that takes the longest."""
MAX_ANSWER_BYTES: Final = 64 << 20
MAX_ERROR_CHARS: Final = 200


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
    given = json.dumps({"place": place._asdict(), "order": order._asdict()})
    timeout = place.timeout + START_TIMEOUT_S + REQUESTS_TIMEOUT_S
    try:
        done = subprocess.run(
            COMMAND, input=given, capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.defpath}, timeout=timeout,
        )  # fmt: skip
        return Answer(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Answer(f"no end within {timeout:g}s")
    except OSError as error:
        return Answer(f"cannot start a process: {error.strerror}")
    except (ValueError, TypeError):  # its stderr could quote the password
        return Answer(f"the process that sends ended with status {done.returncode}")


# --- the child's part


class Refused(Exception):
    """The API did not answer as expected."""


class Lapi:
    """A connection to the API. Raises OSError, HTTPException, ValueError, Refused."""

    def __init__(self, place: Place) -> None:
        import ssl  # noqa: PLC0415 - of the child alone

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
