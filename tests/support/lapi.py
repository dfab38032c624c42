"""A stand-in for CrowdSec's local API over HTTPS: machines, alerts, deletion of decisions by id."""

import itertools
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from support.reactions import Certificate

MACHINE: Final = {"sentryfw": "pass", "other": "word"}

BOUNCER_KEY: Final = "of-a-bouncer"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Write nothing: a client that does not trust the certificate hangs up."""


class FakeLapi:
    """Knows decisions as (id, machine, origin, source)."""

    def __init__(self, certificate: Certificate) -> None:
        self.decisions: list[tuple[int, str, str, str]] = []
        self.alerts: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.changes: list[Any] = []
        """Answers to a bouncer's next questions."""
        self.broken: tuple[int, bytes] | None = None
        """Status and body of every answer after the login."""
        self._numbers = itertools.count(1)
        lapi = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                lapi.requests.append(f"{self.command} {self.path}")
                status, found = lapi.serve(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, machine: str, origin: str, source: str) -> None:
        self.decisions.append((next(self._numbers), machine, origin, source))

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Machine and source of each decision."""
        return sorted((machine, source) for _, machine, _, source in self.decisions)

    def serve(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/v1/watchers/login"):
            given = json.loads(body)
            is_known = MACHINE.get(given["machine_id"]) == given["password"]
            if not is_known or headers["User-Agent"].count("/") != 1:
                return 401, b'{"message": "incorrect Username or Password"}'
            return 200, json.dumps({"token": given["machine_id"]}).encode()
        if path.startswith("/v1/decisions/stream") and headers["X-Api-Key"] != BOUNCER_KEY:
            return 403, b'{"message": "access forbidden"}'
        if self.broken is not None:
            return self.broken
        if path.startswith("/v1/decisions/stream"):
            return 200, json.dumps(self.changes.pop(0)).encode()
        return 200, self._serve(method, path, headers["Authorization"].split()[1], body)

    def _serve(self, method: str, path: str, machine: str, body: bytes) -> bytes:
        parts = urlsplit(path)
        if method == "DELETE":
            number = int(parts.path.rpartition("/")[2])
            self.decisions = [one for one in self.decisions if one[0] != number]
        elif method == "POST":
            for alert in json.loads(body):
                self.alerts.append(alert)
                for decision in alert["decisions"]:
                    self.add(machine, decision["origin"], decision["value"])
        else:
            return json.dumps(self._found(parse_qs(parts.query))).encode()
        return b"{}"

    def _found(self, query: dict[str, list[str]]) -> list[dict[str, Any]] | None:
        chosen = (query.get("ip") or query.get("range") or [""])[0]
        return [
            {"machine_id": machine, "decisions": [{"id": n, "origin": origin, "value": source}]}
            for n, machine, origin, source in self.decisions
            if chosen in ("", source)
        ] or None
