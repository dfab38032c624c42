"""A Cockpit that asks for a login by PAM: its user exists only in a mount namespace of its own.

Copies of /etc/passwd, group and shadow with one user more are bound over the real ones there, and
/run has nothing but a message bus of the test's own: the machine's own files are not touched, and
whether the machine was booted by systemd makes no difference.
"""

import os
import secrets
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sentryfw.tools.drill.namespace import Namespace
from support.browser import Browser
from support.cockpit import NAME, SERVER, URL, Cockpit
from support.waiting import wait_for

USER: Final = "pages"
NUMBER: Final = 47110
"""User and group id; no other user of a test host has it."""
LOCAL: Final = Path("/usr/local/bin")
"""A directory of sudo's and PAM's PATH; the test's programs are bound over it."""
SOCKET: Final = "unix:path=/run/dbus/system_bus_socket"
SESSION: Final = SERVER.with_name("cockpit-session")
"""Asks PAM. Unless its configuration names a command, a newer server (337 of Debian 13) expects it
at a socket of systemd's."""
BUS: Final = f"""<busconfig>
  <listen>{SOCKET}</listen>
  <policy context="default">
    <allow user="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""
"""One bus, the system's and the session's: the bridge of version 337 ends at its second question to
one that is not there."""


class LoginCockpit(Cockpit):
    """A server with a login; `password` is that of USER, who may use sudo."""

    def __init__(self, namespace: Namespace, command: Sequence[str | Path]) -> None:
        self.password = secrets.token_hex(8)
        super().__init__(namespace, command, login=True)

    def prepare(self, words: list[str | Path]) -> list[str | Path]:
        configuration = self.home / "etc" / "cockpit" / "cockpit.conf"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(f"[Basic]\nCommand = {SESSION}\n")
        bus = self.home / "bus.conf"
        bus.write_text(BUS)
        variables = self.home / "pam_env.conf"
        variables.write_text(f"DBUS_SESSION_BUS_ADDRESS DEFAULT={SOCKET}\n")
        user = self.home / "user"
        (user / ".local" / "share").mkdir(parents=True)
        (self.home / "data" / "cockpit").rename(user / ".local" / "share" / "cockpit")
        manifest = user / ".local" / "share" / "cockpit" / NAME / "manifest.json"
        text = manifest.read_text().replace(str(self.home / "bin"), str(LOCAL))
        manifest.write_text(text)
        for path in (user, *user.rglob("*")):
            os.chown(path, NUMBER, NUMBER)
        binds = {Path("/etc") / name: self._copy(name) for name in ("passwd", "group", "shadow")}
        binds |= {LOCAL: self.home / "bin", Path("/etc/security/pam_env.conf"): variables}
        lines = ["set -e", "mount -t tmpfs tmpfs /run", "mkdir /run/dbus"]
        lines += [f"mount --bind {shlex.quote(str(new))} {old}" for old, new in binds.items()]
        # The bus ends with the server. It looks its clients up in /etc/passwd.
        lines.append(f"setpriv --pdeathsig TERM dbus-daemon --nofork --config-file={bus} &")
        lines.append(f"exec {shlex.join(map(str, words))}")
        found = f"XDG_CONFIG_DIRS={configuration.parents[1]}"
        return ["env", found, "unshare", "--mount", "sh", "-c", "\n".join(lines)]

    def _copy(self, name: str) -> Path:
        """Copy a file of /etc with our user in it."""
        source, path = Path("/etc") / name, self.home / name
        lines = source.read_text().splitlines()
        if name == "passwd":
            lines.append(f"{USER}:x:{NUMBER}:{NUMBER}::{self.home / 'user'}:/bin/bash")
        elif name == "group":
            lines = [self._member(line) for line in lines] + [f"{USER}:x:{NUMBER}:"]
        else:
            hashed = subprocess.run(
                ["openssl", "passwd", "-6", "-stdin"], input=self.password, text=True, check=True,
                capture_output=True,
            ).stdout.strip()  # fmt: skip
            lines.append(f"{USER}:{hashed}:20000:0:99999:7:::")
        path.write_text("\n".join(lines) + "\n")
        path.chmod(source.stat().st_mode & 0o777)
        return path

    @staticmethod
    def _member(line: str) -> str:
        if not line.startswith("sudo:"):
            return line
        return f"{line},{USER}" if not line.endswith(":") else f"{line}{USER}"

    # --- what the user does

    def log_in(self, browser: Browser) -> None:
        """Log in, and choose the frame of our page."""
        browser.open(f"{URL}/{NAME}")
        shown = "const e = document.querySelector('#login-user-input'); return e && e.offsetParent"
        wait_for(lambda: browser.run(f"{shown} !== null"), "the login form", 30)
        browser.type("#login-user-input", USER)
        browser.type("#login-password-input", self.password)
        browser.click("#login-button")
        self.choose(browser)

    def choose(self, browser: Browser) -> None:
        """Choose the frame of our page."""
        browser.frame(None)
        browser.frame(f"iframe[name*='{NAME}']")

    def elevate(self, browser: Browser) -> None:
        """Get administrative access in Cockpit's own way, and choose our frame again."""
        browser.frame(None)
        browser.press("Limited access")
        dialog = "[role=dialog]"
        browser.type(f"{dialog} input[type=password]", self.password)
        browser.press("Authenticate", dialog)
        wait_for(lambda: not browser.all(dialog), "the dialog is closed", 30)
        self.choose(browser)
