"""Cockpit with our page, in a network namespace: a cockpit-ws of a test's own, without systemd.

Its bridge finds `sentryfw` first in PATH: a script that runs the command line of this checkout with
the test's configuration.
"""

import os
import shlex
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import cockpit_translations

from sentryfw.tools.drill.namespace import Namespace
from support.host import environment
from support.waiting import wait_for

SERVER: Final = Path("/usr/lib/cockpit/cockpit-ws")
BRIDGE: Final = Path("/usr/bin/cockpit-bridge")
PAGE: Final = Path(__file__).resolve().parents[2] / "web" / "cockpit"
PORT: Final = 9090
URL: Final = f"http://127.0.0.1:{PORT}"
NAME: Final = "sentryfw"


class Cockpit:
    """A server for one session without a login, or for users who log in."""

    def __init__(
        self, namespace: Namespace, command: Sequence[str | Path], *, login: bool = False,
        peer: str | None = None, prefix: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`command`: runs the command line; `peer`: the address that the session comes from;
        `prefix`: starts the session's bridge as another user."""
        self.home = Path(tempfile.mkdtemp(prefix="sentryfw-cockpit-"))
        self.home.chmod(0o755)
        self.program = program = self._script(NAME, *command)
        self._lay_out(program)
        env = environment({
            "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"), "XDG_RUNTIME_DIR": str(self.home),
        })  # fmt: skip
        if peer is not None:
            env["COCKPIT_REMOTE_PEER"] = peer
        words: list[str | Path] = [SERVER, "-p", str(PORT), "-a", "127.0.0.1", "--no-tls"]
        if not login:
            bridge = self._script("bridge", *prefix, BRIDGE)
            words.append(f"--local-session={bridge}")
        self._log = (self.home / "ws.log").open("w")
        self.process = namespace.popen(
            self.prepare(words), stdout=self._log, stderr=self._log, env=env
        )
        wait_for(lambda: namespace.call(_answers), "cockpit-ws answers", 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def log(self) -> str:
        """Everything that the server and its bridge have written."""
        return (self.home / "ws.log").read_text()

    def prepare(self, words: list[str | Path]) -> list[str | Path]:
        """Return the command that starts the server."""
        return words

    def _script(self, name: str, *command: str | Path) -> Path:
        """Write a program that runs a command with its arguments."""
        program = self.home / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
        program.chmod(0o755)
        return program

    def _lay_out(self, program: Path) -> None:
        """Install the page as the package does, for a program at another place."""
        page = self.home / "data" / "cockpit" / NAME
        shutil.copytree(PAGE, page)
        cockpit_translations.write(page)
        manifest = page / "manifest.json"
        manifest.write_text(manifest.read_text().replace("/usr/bin/sentryfw", str(program)))


def _answers() -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=5).close()
    except OSError:
        return False
    return True
