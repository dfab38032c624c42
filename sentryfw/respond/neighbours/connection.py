"""A connection to CrowdSec's local API, for the processes that speak with it.

It follows no redirect, uses no proxy, verifies certificates and names, and bounds what it reads.
"""

import http.client
import json
import ssl
import sys
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from sentryfw import __version__

AGENT: Final = f"SentryFW/{__version__}"
"""The API refuses a login without a version in it."""
MAX_ANSWER_BYTES: Final = 64 << 20
MAX_ERROR_CHARS: Final = 200
INVALID: Final = (
    http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
"""Exceptions of reading an answer that the API does not make."""

ObjectHook = Callable[[dict[str, Any]], object]


class Refused(Exception):
    """The API did not answer as expected."""


class Connection:
    """Asks the API. Raises OSError, Refused, and INVALID."""

    def __init__(self, url: str, ca: str | None, timeout: float) -> None:
        """`ca`: file of CA certificates; None: the system's. `timeout`: seconds for an answer."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
        self._base = parts.path.rstrip("/")
        self.headers = {"User-Agent": AGENT, "Content-Type": "application/json"}
        self.hints: dict[int, str] = {}
        """Ends of the sentence about a refusal, by its status."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(
        self, method: str, path: str, body: object = None, hook: ObjectHook | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """Return the answer's JSON; `hook`: as json.loads() has it."""
        text = None if body is None else json.dumps(body).encode()
        self._connection.request(method, self._base + path, text, self.headers)
        answer = self._connection.getresponse()
        data = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise Refused(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if not 200 <= answer.status < 300:
            where = path.partition("?")[0]
            more = self.hints.get(answer.status, "")
            raise Refused(f"the server answered {answer.status} to {method} {where}{more}")
        return json.loads(data, object_hook=hook) if data else None


def run(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read a request from stdin, do the work, and write its answer, or {"error": a sentence}."""
    try:
        answer = work(json.load(sys.stdin))
    except Refused as error:
        answer = {"error": str(error)}
    except TimeoutError:
        answer = {"error": "no answer in time"}
    except OSError as error:
        answer = {"error": str(error)[:MAX_ERROR_CHARS]}
    except INVALID as error:  # its text could quote the answer
        answer = {"error": f"not a valid answer ({type(error).__name__})"}
    json.dump(answer, sys.stdout)
