"""Send one HTTP request, in a process of its own: what it needs is not kept in the daemon.

The child reads the request as JSON from stdin, so that no token is in a command line or an
environment, and writes the status as JSON. It follows no redirect, uses no proxy, and verifies
certificates and names. See docs/decisions.md: webhook-process.
"""

import json
import sys
from typing import Any, Final, NamedTuple

from sentryfw.host import child

COMMAND: Final = child.command_of("sentryfw.respond.webhook.post")
START_TIMEOUT_S: Final = 10.0
"""Seconds for the child besides those for its request; on two busy cores it starts in one."""
MAX_ANSWER_BYTES: Final = 1 << 16
MAX_RETRY_AFTER_S: Final = 3600.0


class Posted(NamedTuple):
    """The end of a request."""

    error: str
    """Empty after a status of 2xx."""
    status: int = 0
    retry_after: float = 0.0
    """Seconds that the server asks to wait."""


def post(
    *, method: str, url: str, headers: dict[str, str], body: str, ca: str | None, timeout: float
) -> Posted:
    """Send a request and return its end; never raise for a failure of the child."""
    request = {
        "method": method, "url": url, "headers": headers, "body": body, "ca": ca,
        "timeout": timeout,
    }  # fmt: skip
    return child.send(Posted, COMMAND, request, timeout, START_TIMEOUT_S)


def _send(request: dict[str, Any]) -> Posted:
    """Send the request: the child's part. Raise OSError, HTTPException or ValueError."""
    import http.client  # noqa: PLC0415 - of the child alone
    import ssl  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    place = urlsplit(request["url"])
    host, timeout = place.hostname or "", request["timeout"]
    if place.scheme == "https":
        context = ssl.create_default_context(cafile=request["ca"])
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, place.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, place.port, timeout=timeout)
    path = (place.path or "/") + (f"?{place.query}" if place.query else "")
    headers = {"User-Agent": "SentryFW", "Connection": "close", **request["headers"]}
    connection.request(request["method"], path, request["body"].encode(), headers)
    answer = connection.getresponse()
    answer.read(MAX_ANSWER_BYTES)
    if 200 <= answer.status < 300:
        return Posted("", answer.status)
    more = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
    seconds = answer.getheader("Retry-After", "")
    wait = float(seconds) if seconds.isdecimal() and len(seconds) < 9 else 0.0
    return Posted(
        f"the server answered {answer.status}{more}", answer.status, min(wait, MAX_RETRY_AFTER_S)
    )


def main() -> None:
    """Read a request, send it, and write its end: the child's part."""
    import http.client  # noqa: PLC0415 - of the child alone

    try:
        posted = _send(json.load(sys.stdin))
    except TimeoutError:
        posted = Posted("no answer in time")
    except OSError as error:
        posted = Posted(str(error)[:200])
    except (http.client.HTTPException, ValueError) as error:  # its text could quote the URL
        posted = Posted(f"not a valid request or answer ({type(error).__name__})")
    json.dump(posted._asdict(), sys.stdout)


if __name__ == "__main__":
    main()
