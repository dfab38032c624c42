"""Remote syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS
(RFC 5425), with a bounded spool for the time that the server is away.

One thread sends in order. What a broken connection did not take is sent again over the next
one; what the kernel took and the peer never read is lost, as RFC 6587 says of TCP.
"""

import contextlib
import os
import socket
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sentryfw.config_respond import PLACEHOLDERS, RemoteSyslog
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed, Report, Reporter, reason_of
from sentryfw.respond.worker import Worker

if TYPE_CHECKING:
    import ssl

WARNING: Final = 4
NOTICE: Final = 5
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before the next attempt: doubled from the first to the longest."""
NAME: Final = "syslog"


def severity(incident: Incident) -> int:
    """RFC 5424, table 2."""
    return WARNING if incident.action == "blocked" else NOTICE


def render(incident: Incident, settings: RemoteSyslog, hostname: str) -> bytes:
    """One SYSLOG-MSG, RFC 5424 section 6."""
    priority = settings.facility * 8 + severity(incident)
    when = datetime.fromtimestamp(incident.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = incident.fields()
    parameters = "".join(f' {name}="{_escape(fields[name])}"' for name in PLACEHOLDERS)
    element = f"[sentryfw@{settings.enterprise}{parameters}]"
    header = f"<{priority}>1 {when} {hostname or '-'} sentryfwd {os.getpid()} {incident.action}"
    return f"{header} {element} {incident.sentence()}".encode("ascii", "replace")


def _escape(value: str) -> str:
    """PARAM-VALUE, section 6.3.3."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class SyslogSender(Worker):
    """The spool, and the thread that empties it."""

    def __init__(self, settings: RemoteSyslog, report: Report) -> None:
        super().__init__(NAME)
        self._settings = settings
        self.reporter = Reporter(NAME, report, quiet=True)
        self._spool: deque[tuple[str, bytes]] = deque()
        self._hostname = socket.gethostname()
        self._socket: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._lost = 0

    @property
    def waiting(self) -> int:
        return len(self._spool)

    def put(self, incident: Incident) -> None:
        message = render(incident, self._settings, self._hostname)
        with self._condition:
            if len(self._spool) >= self._settings.spool:
                self._spool.popleft()
                self._lost += 1
            self._spool.append((incident.address, message))
            self._condition.notify()

    def stop(self, deadline: float) -> None:
        """Send what can be sent until then."""
        super().stop(deadline)
        if self._spool:
            self.reporter.failure("", f"{len(self._spool)} not sent: the daemon ended")

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._condition:
                while not self._spool and not self._stopping:
                    self._condition.wait()
                if not self._spool:
                    break
                address, message = self._spool[0]
            try:
                self._send(message)
            except (OSError, Failed) as error:
                self._close()
                self.reporter.failure(address, f"{self._where()}: {reason_of(error)}")
                if not self._rest(pause):
                    break
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                self._sent(address, message)
        self._close()

    def _sent(self, address: str, message: bytes) -> None:
        with self._condition:
            if self._spool and self._spool[0][1] is message:  # else it fell out of a full spool
                self._spool.popleft()
            lost, self._lost = self._lost, 0
        if lost:
            self.reporter.failure("", f"{self._where()}: {lost} messages lost: the spool was full")
        self.reporter.success(address, f"sent to {self._where()}")

    def _rest(self, pause: float) -> bool:
        """Wait; False if the daemon ends meanwhile."""
        with self._condition:
            end = time.monotonic() + pause
            while not self._stopping:
                left = end - time.monotonic()
                if left <= 0:
                    return True
                self._condition.wait(left)
        return False

    def _where(self) -> str:
        settings = self._settings
        return f"{settings.transport}://{settings.host}:{settings.service}"

    def _send(self, message: bytes) -> None:
        if self._settings.transport == "udp":
            sock = self._socket or self._connect()
            sock.send(message)
            return
        if self._socket is not None and self._is_closed(self._socket):
            self._close()  # the server went away while there was nothing to say
        sock = self._socket or self._connect()
        sock.sendall(b"%d %s" % (len(message), message))

    @staticmethod
    def _is_closed(sock: socket.socket) -> bool:
        """Whether the peer has closed: a syslog server never answers (RFC 5425, section 4.3)."""
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            while True:
                if not sock.recv(4096):
                    return True
        except (BlockingIOError, TimeoutError):
            return False
        except OSError as error:  # ssl's own "would block" is an OSError
            return type(error).__name__ not in {"SSLWantReadError", "SSLWantWriteError"}
        finally:
            sock.settimeout(timeout)

    def _connect(self) -> socket.socket:
        settings = self._settings
        kind = socket.SOCK_DGRAM if settings.transport == "udp" else socket.SOCK_STREAM
        problem: OSError = OSError("no address")
        for family, type_, protocol, _, address in socket.getaddrinfo(
            settings.host, settings.service, type=kind
        ):
            sock = socket.socket(family, type_, protocol)
            sock.settimeout(settings.timeout)
            try:
                sock.connect(address)
                if settings.transport == "tls":
                    sock = self._tls().wrap_socket(
                        sock, server_hostname=settings.server_name or settings.host
                    )
            except OSError as error:
                sock.close()
                problem = error
            else:
                self._socket = sock
                return sock
        raise problem

    def _tls(self) -> "ssl.SSLContext":
        if self._context is None:
            import ssl  # noqa: PLC0415 - 2 MiB, for those who want it

            settings = self._settings
            self._context = ssl.create_default_context(
                cafile=str(settings.ca) if settings.ca else None
            )
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            if settings.certificate and settings.key:
                self._context.load_cert_chain(settings.certificate, settings.key)
        return self._context

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
