"""The part of rpcd and uhttpd that a LuCI view needs: files, and `file exec` as the ACL permits."""

import http.server
import json
import shlex
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Self

from translations import parse

from sentryfw.tools.drill.namespace import Namespace
from support.host import environment

ROOT: Final = Path(__file__).resolve().parents[2] / "web" / "luci"
VIEW: Final = ROOT / "htdocs/luci-static/resources/view/sentryfw/overview.js"
ACL: Final = ROOT / "root/usr/share/rpcd/acl.d/luci-app-sentryfw.json"
MENU: Final = ROOT / "root/usr/share/luci/menu.d/luci-app-sentryfw.json"
STUB: Final = Path(__file__).resolve().parents[1] / "web" / "luci_stub.js"
PROGRAM: Final = "/usr/bin/sentryfw"
URL: Final = "http://127.0.0.1:8088/"
HTML: Final = (
    '<!DOCTYPE html><meta charset="utf-8"><div id="notes"></div><div id="view"></div>'
    '<div id="modal"></div><script>window.mayWrite = {may_write}</script>'
    "<script>window.translations = {translations}</script>"
    '<script src="/stub.js"></script>'
)


def permitted(rights: Sequence[str]) -> list[str]:
    """Return the patterns of command lines that these rights of the ACL permit."""
    [acl] = json.loads(ACL.read_text()).values()
    return [
        pattern
        for right in rights
        for pattern, verbs in acl[right]["file"].items()
        if "exec" in verbs
    ]


def is_permitted(words: Sequence[str], rights: Sequence[str]) -> bool:
    """Decide as rpcd's rpc_file_exec_lookup(): fnmatch(3) on the words, joined by spaces."""
    line = " ".join([PROGRAM, *words])
    return any(fnmatchcase(line, pattern) for pattern in permitted(rights))


def translations_of(language: str) -> dict[str, str]:
    """Return the translations of a language; of English there are none."""
    path = ROOT / "po" / language / "sentryfw.po"
    return parse(path.read_text()) if language != "en" else {}


class Luci:
    """A server of the view in a namespace; `command` runs the command line."""

    def __init__(
        self, namespace: Namespace, command: Sequence[str | Path], rights: Sequence[str],
        language: str = "en",
    ) -> None:  # fmt: skip
        self._language = language
        self.refused: list[list[str]] = []
        self._rights = rights
        self._prefix = ["nsenter", f"--net={namespace.path}", *map(str, command)]
        self._server = namespace.call(
            lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 8088), self._handler())
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def execute(self, command: str, words: list[str]) -> dict[str, Any] | None:
        """Run a permitted command; None: it is not permitted."""
        if command != PROGRAM or not is_permitted(words, self._rights):
            self.refused.append(words)
            return None
        done = subprocess.run(
            [*self._prefix, *words], capture_output=True, text=True, check=False, env=environment()
        )
        assert "Traceback" not in done.stderr, f"{shlex.join(words)}: {done.stderr}"
        return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        luci = self
        page = HTML.format(
            may_write=json.dumps("write" in self._rights),
            translations=json.dumps(translations_of(self._language)),
        )
        files = {
            "/": ("text/html", page),
            "/stub.js": ("text/javascript", STUB.read_text()),
            "/view.js": ("text/javascript", VIEW.read_text()),
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Write nothing."""

            def do_GET(self) -> None:
                kind, text = files.get(self.path, ("", ""))
                self._answer(200 if kind else 404, kind or "text/plain", text)

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                result = luci.execute(asked["command"], asked["params"])
                code = 403 if result is None else 200
                self._answer(code, "application/json", json.dumps(result))

            def _answer(self, code: int, kind: str, text: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.end_headers()
                with suppress(ConnectionError):  # the browser was closed while the view refreshed
                    self.wfile.write(text.encode())

        return Handler
