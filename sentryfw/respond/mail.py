"""Mail to an administrator: at once, but not too often, or as a digest.

One thread collects and sends. While it may not send yet, or cannot, incidents wait for the next
mail; beyond MAX_INCIDENTS they are only counted.
"""

import os
import socket
import stat
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentryfw.config_respond import Mail
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed, Report, Reporter, reason_of
from sentryfw.respond.worker import Worker

if TYPE_CHECKING:
    import smtplib
    import ssl

MAX_INCIDENTS: Final = 500
"""In one mail."""
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 3600.0
"""Seconds before a mail that failed is tried again: doubled from the first to the longest."""
NAME: Final = "mail"


def read_credentials(path: Path) -> tuple[str, str]:
    """User and password. Failed where others could read them, or the file makes no sense."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
                raise Failed(
                    f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}:"
                    " it must be 0600 and root's"
                )
            data = file.read(4096)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    try:
        table = tomllib.loads(data.decode())
    except ValueError:  # its text could quote the password
        raise Failed(f"{path}: no TOML") from None
    user, password = table.get("user"), table.get("password")
    if not isinstance(user, str) or not isinstance(password, str):
        raise Failed(f'{path}: write user = "..." and password = "..."')
    return user, password


def compose(incidents: list[Incident], lost: int, settings: Mail, hostname: str) -> EmailMessage:
    """One mail about them all."""
    blocked = [incident for incident in incidents if incident.action == "blocked"]
    message = EmailMessage()
    message["From"] = settings.sender or f"sentryfw@{hostname}"
    message["To"] = ", ".join(settings.to)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=hostname)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody answers with a vacation note
    if len(incidents) == 1 and not lost:
        message["Subject"] = f"SentryFW {hostname}: {incidents[0].action} {incidents[0].address}"
    else:
        message["Subject"] = (
            f"SentryFW {hostname}: {len(blocked)} blocked,"
            f" {len(incidents) - len(blocked)} not blocked"
        )
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S%z', time.localtime(incident.at))} {incident.sentence()}"
        for incident in incidents
    ]
    if lost:
        lines.append(f"... and {lost} more: `sentryfw list` and the ledger have them all.")
    lines += ["", "Why: sentryfw explain ADDRESS    Undo: sentryfw unblock ADDRESS"]
    message.set_content("\n".join(lines) + "\n")
    return message


class Mailer(Worker):
    """What waits for the next mail, and the thread that sends it."""

    def __init__(self, settings: Mail, report: Report) -> None:
        super().__init__(NAME)
        self._settings = settings
        self.reporter = Reporter(NAME, report)
        self._pending: deque[Incident] = deque()
        self._lost = 0
        self._hostname = socket.gethostname()
        self._pause = FIRST_PAUSE
        is_digest = settings.mode == "digest"
        self._gap = settings.every if is_digest else settings.throttle
        self._not_before = time.monotonic() + (self._gap if is_digest else 0.0)

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def put(self, incident: Incident) -> None:
        """Blocks; in a digest also what was not blocked."""
        if incident.action != "blocked" and self._settings.mode != "digest":
            return
        with self._condition:
            if len(self._pending) < MAX_INCIDENTS:
                self._pending.append(incident)
            else:
                self._lost += 1
            self._condition.notify()

    def stop(self, deadline: float) -> None:
        super().stop(deadline)
        if self._pending:
            self.reporter.failure("", f"{len(self._pending)} not mailed: the daemon ended")

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._is_due():
                    if self._stopping:
                        return
                    self._condition.wait(self._patience())
                incidents, lost = list(self._pending), self._lost
                self._pending.clear()
                self._lost = 0
            self._deliver(incidents, lost)

    def _is_due(self) -> bool:
        return bool(self._pending) and time.monotonic() >= self._not_before and not self._stopping

    def _patience(self) -> float | None:
        return max(0.001, self._not_before - time.monotonic()) if self._pending else None

    def _deliver(self, incidents: list[Incident], lost: int) -> None:
        begin = time.monotonic()
        try:
            self._send(compose(incidents, lost, self._settings, self._hostname))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and tried again
            seconds = time.monotonic() - begin
            detail = f"{self._where()}: {_complaint(error)}; tried again in {self._pause:g}s"
            for incident in incidents:
                self.reporter.failure(incident.address, detail, seconds)
            self._put_back(incidents, lost)
        else:
            self._pause = FIRST_PAUSE
            self._not_before = time.monotonic() + self._gap
            detail = f"{self._where()}: mailed to {', '.join(self._settings.to)}"
            for incident in incidents:
                self.reporter.success(incident.address, detail, time.monotonic() - begin)

    def _put_back(self, incidents: list[Incident], lost: int) -> None:
        with self._condition:
            self._not_before = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._lost += lost
            room = MAX_INCIDENTS - len(incidents)
            while len(self._pending) > room:
                self._pending.pop()
                self._lost += 1
            self._pending.extendleft(reversed(incidents))

    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.service}"

    def _send(self, message: EmailMessage) -> None:
        settings = self._settings
        credentials = read_credentials(settings.credentials) if settings.credentials else None
        with self._connection() as server:
            if settings.security == "starttls":
                server.starttls(context=self._tls())
            if credentials is not None:
                server.login(*credentials)
            server.send_message(message)

    @contextmanager
    def _connection(self) -> Iterator["smtplib.SMTP"]:
        import smtplib  # noqa: PLC0415 - for those who want it

        settings = self._settings
        place = (settings.host, settings.service)
        if settings.security == "tls":
            with smtplib.SMTP_SSL(*place, timeout=settings.timeout, context=self._tls()) as server:
                yield server
        else:
            with smtplib.SMTP(*place, timeout=settings.timeout) as server:
                yield server

    def _tls(self) -> "ssl.SSLContext":
        import ssl  # noqa: PLC0415

        ca = self._settings.ca
        return ssl.create_default_context(cafile=str(ca) if ca else None)


def _complaint(error: Exception) -> str:
    """What went wrong. A server's own words at a login could quote what it was told."""
    code = getattr(error, "smtp_code", None)
    if type(error).__name__ == "SMTPAuthenticationError":
        return f"login refused, {code}"
    return reason_of(error)
