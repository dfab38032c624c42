"""Mail to an administrator: at once, but not too often, or as a digest.

One thread collects and sends. Until it may send again, or the server works again, incidents wait
for the next mail; beyond MAX_INCIDENTS they are only counted.
"""

import logging
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from sentryfw.config.respond import Mail
from sentryfw.errors import ReactionFailed
from sentryfw.host.credentials import read_secrets
from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import EXPECTED, Report, ResultReporter, reason_of
from sentryfw.respond.worker_thread import PacedThread

if TYPE_CHECKING:
    import smtplib
    import ssl

    from sentryfw.respond.origin.finder import Find

MAX_INCIDENTS: Final = 500
"""Incidents in one mail."""
MIN_RETRY_S: Final = 30.0
MAX_RETRY_S: Final = 3600.0
"""Seconds before a mail that failed is tried again: doubled from the shortest to the longest."""
NAME: Final = "mail"

log: Final = logging.getLogger("sentryfwd")


def read_credentials(path: Path) -> tuple[str, str]:
    """Return user and password.

    Raise ReactionFailed if others can read the file, or if it is not valid.
    """
    table = read_secrets(path)
    user, password = table.get("user"), table.get("password")
    if not isinstance(user, str) or not isinstance(password, str):
        raise ReactionFailed(f'{path}: write user = "..." and password = "..."')
    return user, password


def new_message(config: Mail, hostname: str, what: str) -> EmailMessage:
    """Return a mail to the administrators without a text; `what`: the subject's end."""
    message = EmailMessage()
    message["From"] = config.sender or f"sentryfw@{hostname}"
    message["To"] = ", ".join(config.to)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=hostname)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic replies
    message["Subject"] = f"SentryFW {hostname}: {what}"
    return message


def compose(
    incidents: list[Incident], lost: int, config: Mail, hostname: str,
    origins: Mapping[str, Origin] = MappingProxyType({}),
) -> EmailMessage:  # fmt: skip
    """Return one mail about all incidents; `lost`: incidents that are only counted; `origins`: of
    their sources, by address."""
    blocked = [incident for incident in incidents if incident.action == "blocked"]
    if len(incidents) == 1 and not lost:
        what = f"{incidents[0].action} {incidents[0].address}"
    else:
        what = f"{len(blocked)} blocked, {len(incidents) - len(blocked)} not blocked"
    message = new_message(config, hostname, what)
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S%z', time.localtime(incident.at))} {incident.sentence()}"
        + (f" [{origin}]" if (origin := str(origins.get(incident.address, NOWHERE))) else "")
        for incident in incidents
    ]
    if lost:
        lines.append(f"... and {lost} more: `sentryfw list` and the ledger have all of them.")
    lines += ["", *_commands(incidents)]
    message.set_content("\n".join(lines) + "\n")
    return message


def _commands(incidents: list[Incident]) -> Iterator[str]:
    """Yield the commands for the mail's addresses, those of the first one if there are several."""
    addresses = list(dict.fromkeys(incident.address for incident in incidents))
    for address in addresses[:1]:
        yield f"Why:  sentryfw explain {address}"
        yield f"Undo: sentryfw unblock {address}"
    if len(addresses) > 1:
        yield f"and the other addresses, {len(addresses) - 1}, in the same way"


class Mailer(PacedThread):
    """Collects incidents for the next mail, and sends it in a thread."""

    def __init__(self, config: Mail, report: Report, origins: "Find | None" = None) -> None:
        """`origins`: finds the origins of sources; None: no files are configured for that."""
        super().__init__(NAME)
        self._config = config
        self._origins = origins
        self.reporter = ResultReporter(NAME, report)
        self._pending: deque[Incident] = deque()
        self._lost = 0
        self._hostname = socket.gethostname()
        self._retry = MIN_RETRY_S
        is_digest = config.mode == "digest"
        self._gap = config.every if is_digest else config.throttle
        self._not_before = time.monotonic() + (self._gap if is_digest else 0.0)

    @property
    def waiting(self) -> int:
        """Incidents that wait for the next mail."""
        return len(self._pending)

    def put(self, incident: Incident) -> None:
        """Add a block, or in a digest any incident, to the next mail."""
        if incident.action == "refused" and self._config.mode != "digest":
            return
        with self._condition:
            if len(self._pending) < MAX_INCIDENTS:
                self._pending.append(incident)
            else:
                self._lost += 1
            self._condition.notify()

    def stop(self, deadline: float) -> None:
        """End the thread; report incidents that were not mailed."""
        super().stop(deadline)
        if self._pending:
            self.reporter.failure("", f"{len(self._pending)} not mailed: the daemon ended")

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._wait_until_due():
                    return
                incidents, lost = list(self._pending), self._lost
                self._pending.clear()
                self._lost = 0
            self._deliver(incidents, lost)

    def _deliver(self, incidents: list[Incident], lost: int) -> None:
        begin = time.monotonic()
        try:
            send(self._config, self._compose(incidents, lost))
        except Exception as error:  # reported, and tried again
            if not isinstance(error, EXPECTED):
                log.exception("mail: unexpected error")
            seconds = time.monotonic() - begin
            detail = f"{self._where()}: {failure_text(error)}; tried again in {self._retry:g}s"
            for incident in incidents:
                self.reporter.failure(incident.address, detail, seconds)
            self._postpone(incidents, lost)
        else:
            self._retry = MIN_RETRY_S
            self._not_before = time.monotonic() + self._gap
            detail = f"{self._where()}: mailed to {', '.join(self._config.to)}"
            for incident in incidents:
                self.reporter.success(incident.address, detail, time.monotonic() - begin)

    def _compose(self, incidents: list[Incident], lost: int) -> EmailMessage:
        addresses = list(dict.fromkeys(incident.address for incident in incidents))
        origins = self._origins(addresses) if self._origins is not None else {}
        return compose(incidents, lost, self._config, self._hostname, origins)

    def _postpone(self, incidents: list[Incident], lost: int) -> None:
        with self._condition:
            self._not_before = time.monotonic() + self._retry
            self._retry = min(self._retry * 2, MAX_RETRY_S)
            self._lost += lost
            room = MAX_INCIDENTS - len(incidents)
            while len(self._pending) > room:
                self._pending.pop()
                self._lost += 1
            self._pending.extendleft(reversed(incidents))

    def _where(self) -> str:
        return f"{self._config.host}:{self._config.service}"


def send(config: Mail, message: EmailMessage) -> None:
    """Send a mail. Raise ReactionFailed, OSError, or an exception of smtplib."""
    credentials = read_credentials(config.credentials) if config.credentials else None
    with _connection(config) as server:
        if config.security == "starttls":
            server.starttls(context=_tls(config))
        if credentials is not None:
            server.login(*credentials)
        server.send_message(message)


@contextmanager
def _connection(config: Mail) -> Iterator["smtplib.SMTP"]:
    import smtplib  # noqa: PLC0415 - only if mail is configured

    place = (config.host, config.service)
    if config.security == "tls":
        with smtplib.SMTP_SSL(*place, timeout=config.timeout, context=_tls(config)) as server:
            yield server
    else:
        with smtplib.SMTP(*place, timeout=config.timeout) as server:
            yield server


def _tls(config: Mail) -> "ssl.SSLContext":
    import ssl  # noqa: PLC0415

    return ssl.create_default_context(cafile=str(config.ca) if config.ca else None)


def failure_text(error: Exception) -> str:
    """Return the reason of a failure. A server's answer to a login could quote the password."""
    code = getattr(error, "smtp_code", None)
    if type(error).__name__ == "SMTPAuthenticationError":
        return f"login refused, {code}"
    return reason_of(error)
