"""Chromium in a network namespace, driven through chromedriver by the WebDriver protocol (W3C).

The protocol is JSON over HTTP; a client library would be one more package to lock.
"""

import base64
import http.client
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from sentryfw.tools.drill.namespace import Namespace
from support.waiting import wait_for

CHROMIUM: Final = Path("/usr/bin/chromium")
DRIVER: Final = Path("/usr/bin/chromedriver")
PORT: Final = 9515
DEADLINE_S: Final = 30.0
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element in the protocol."""
OPTIONS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--disable-dev-shm-usage", "--disable-extensions", "--no-proxy-server",
    "--enable-precise-memory-info", "--js-flags=--expose-gc",
)  # fmt: skip


class _Connection(http.client.HTTPConnection):
    """A connection whose socket is made inside a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__("127.0.0.1", PORT, timeout=60)
        self._namespace = namespace

    def connect(self) -> None:
        self.sock = self._namespace.call(
            lambda: socket.create_connection(("127.0.0.1", PORT), timeout=60)
        )


class Browser:
    """One window. Elements are named by CSS selectors, in the frame that is chosen."""

    def __init__(self, namespace: Namespace, size: tuple[int, int] = (1280, 900)) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sentryfw-browser-"))
        self._log = (self.home / "driver.log").open("w")
        self.process = namespace.popen(
            [DRIVER, f"--port={PORT}"], stdout=self._log, stderr=self._log
        )
        self._connection = _Connection(namespace)
        self._session = ""
        wait_for(self._is_ready, "chromedriver answers", DEADLINE_S)
        arguments = [
            *OPTIONS,
            f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={self.home / 'profile'}",
        ]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": str(CHROMIUM), "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._ask("DELETE", self._session)
        self._connection.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    # --- pages

    def open(self, url: str) -> None:
        self._post("/url", {"url": url})

    def frame(self, selector: str | None) -> None:
        """Choose a frame of the page; None: the page itself."""
        if selector is None:
            self._post("/frame", {"id": None})
        else:
            self._post("/frame", {"id": {ELEMENT: self.find(selector)}})

    def run(self, script: str, *values: object) -> Any:
        """Run a script in the frame, and return its value."""
        return self._post("/execute/sync", {"script": script, "args": list(values)})

    def picture(self, path: Path) -> None:
        data = self._ask("GET", f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(data))

    def resize(self, width: int, height: int) -> None:
        """Show the page as a screen of this size would."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def devtools(self, command: str, values: dict[str, Any]) -> Any:
        return self._post("/goog/cdp/execute", {"cmd": command, "params": values})

    def messages(self) -> list[str]:
        """Return what the page has written to the console since the last call."""
        return [entry["message"] for entry in self._post("/se/log", {"type": "browser"})]

    # --- elements

    def find(self, selector: str) -> str:
        """Return an element, as soon as there is one."""
        return wait_for(lambda: self.all(selector), f"{selector} is there", DEADLINE_S)[0]

    def all(self, selector: str) -> list[str]:
        found = self._post("/elements", {"using": "css selector", "value": selector})
        return [item[ELEMENT] for item in found]

    def text(self, selector: str) -> str:
        """Return the visible text of the first element; empty if there is none."""
        script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : '';"
        return str(self.run(script, selector))

    def wait_text(self, selector: str, part: str, deadline: float = DEADLINE_S) -> str:
        """Return the text of an element, as soon as it has this part."""
        wait_for(lambda: part in self.text(selector), f"{selector} shows {part!r}", deadline)
        return self.text(selector)

    def click(self, selector: str) -> None:
        self._post(f"/element/{self.find(selector)}/click", {})

    def press(self, text: str, within: str = "body") -> None:
        """Click the button with this text, as soon as there is one."""
        script = (
            "return [...document.querySelectorAll(arguments[0] + ' button')]"
            ".find(b => b.innerText.trim() === arguments[1] && !b.disabled) ?? null;"
        )
        found = wait_for(
            lambda: self.run(script, within, text), f"a button {text!r} in {within}", DEADLINE_S
        )
        self._post(f"/element/{found[ELEMENT]}/click", {})

    def type(self, selector: str, text: str) -> None:
        self._post(f"/element/{self.find(selector)}/value", {"text": text})

    def point(self, selector: str | None) -> None:
        """Move the pointer over an element, or to a corner of the page."""
        origin: object = "viewport" if selector is None else {ELEMENT: self.find(selector)}
        move = {"type": "pointerMove", "duration": 0, "x": 1, "y": 1, "origin": origin}
        pointer = {"type": "pointer", "id": "mouse", "actions": [move]}
        self._post("/actions", {"actions": [pointer]})

    def keys(self, *keys: str) -> None:
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    # --- the protocol

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False

    def _post(self, path: str, values: dict[str, Any]) -> Any:
        return self._ask("POST", self._session + path, values)

    def _ask(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        body = None if values is None else json.dumps(values)
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{path}: {answer['error']}: {answer['message']}")
        return answer


def missing() -> Sequence[str]:
    """Return the programs that the tests of pages need and this host lacks."""
    bridge, server = Path("/usr/bin/cockpit-bridge"), Path("/usr/lib/cockpit/cockpit-ws")
    return [str(path) for path in (CHROMIUM, DRIVER, bridge, server) if not path.exists()]
