"""Remote syslog: RFC 5424 messages over UDP, TCP or TLS, with a bounded spool.

UDP follows RFC 5426, TCP RFC 6587 with octet counting, TLS RFC 5425. One thread sends in order. A
message that a broken connection did not accept is sent again over the next one. A message that
the kernel accepted and the peer never read is lost, as RFC 6587 describes for TCP.
"""

import contextlib
import os
import socket
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sentryfw.config.respond import PLACEHOLDERS, RemoteSyslog
from sentryfw.errors import ReactionFailed
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import Report, ResultReporter, reason_of
from sentryfw.respond.worker_thread import WorkerThread

if TYPE_CHECKING:
    import ssl

SEVERITIES: Final = {"blocked": 4, "confined": 4, "refused": 5}
"""Warning and notice (RFC 5424, table 2), by the action of an incident."""
MIN_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 60.0
"""Seconds before the next attempt: doubled from the shortest to the longest."""
NAME: Final = "syslog"
_RECEIVE_BYTES: Final = 4096


def severity(incident: Incident) -> int:
    """Return the severity of a message about an incident."""
    return SEVERITIES[incident.action]


def render(incident: Incident, config: RemoteSyslog, hostname: str) -> bytes:
    """Return one SYSLOG-MSG (RFC 5424, section 6)."""
    priority = config.facility * 8 + severity(incident)
    when = datetime.fromtimestamp(incident.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = incident.fields()
    parameters = "".join(f' {name}="{_escape(fields[name])}"' for name in PLACEHOLDERS)
    element = f"[sentryfw@{config.enterprise}{parameters}]"
    header = f"<{priority}>1 {when} {hostname or '-'} sentryfwd {os.getpid()} {incident.action}"
    return f"{header} {element} {incident.sentence()}".encode("ascii", "replace")


def _escape(value: str) -> str:
    """Escape a PARAM-VALUE (RFC 5424, section 6.3.3)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class SyslogSender(WorkerThread):
    """Spools messages, and sends them in a thread."""

    def __init__(self, config: RemoteSyslog, report: Report) -> None:
        super().__init__(NAME)
        self._config = config
        self.reporter = ResultReporter(NAME, report, quiet=True)
        self._spool: deque[tuple[str, bytes]] = deque()
        self._hostname = socket.gethostname()
        self._socket: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._lost = 0

    @property
    def waiting(self) -> int:
        """Messages in the spool."""
        return len(self._spool)

    def put(self, incident: Incident) -> None:
        """Add a message; a full spool loses its oldest one."""
        message = render(incident, self._config, self._hostname)
        with self._condition:
            if len(self._spool) >= self._config.spool:
                self._spool.popleft()
                self._lost += 1
            self._spool.append((incident.address, message))
            self._condition.notify()

    def stop(self, deadline: float) -> None:
        """Send what can be sent until the deadline, and report the rest."""
        super().stop(deadline)
        if self._spool:
            self.reporter.failure("", f"{len(self._spool)} not sent: the daemon ended")

    def _run(self) -> None:
        retry = MIN_RETRY_S
        while True:
            with self._condition:
                while not self._spool and not self._stopping:
                    self._condition.wait()
                if not self._spool:
                    break
                address, message = self._spool[0]
            try:
                self._send(message)
            except (OSError, ReactionFailed) as error:
                self._close()
                self.reporter.failure(address, f"{self._where()}: {reason_of(error)}")
                if not self._sleep(retry):
                    break
                retry = min(retry * 2, MAX_RETRY_S)
            else:
                retry = MIN_RETRY_S
                self._sent(address, message)
        self._close()

    def _sent(self, address: str, message: bytes) -> None:
        with self._condition:
            if self._spool and self._spool[0][1] is message:  # else a full spool dropped it
                self._spool.popleft()
            lost, self._lost = self._lost, 0
        if lost:
            self.reporter.failure("", f"{self._where()}: {lost} messages lost: the spool was full")
        self.reporter.success(address, f"sent to {self._where()}")

    def _sleep(self, retry: float) -> bool:
        """Wait; return False if the daemon ends during that time."""
        with self._condition:
            end = time.monotonic() + retry
            while not self._stopping:
                left = end - time.monotonic()
                if left <= 0:
                    return True
                self._condition.wait(left)
        return False

    def _where(self) -> str:
        config = self._config
        return f"{config.transport}://{config.host}:{config.service}"

    def _send(self, message: bytes) -> None:
        if self._config.transport == "udp":
            sock = self._socket or self._connect()
            sock.send(message)
            return
        if self._socket is not None and self._is_closed(self._socket):
            self._close()  # the server closed while the spool was empty
        sock = self._socket or self._connect()
        sock.sendall(b"%d %s" % (len(message), message))

    @staticmethod
    def _is_closed(sock: socket.socket) -> bool:
        """Return whether the peer closed: a syslog server never answers (RFC 5425, section 4.3)."""
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            while True:
                if not sock.recv(_RECEIVE_BYTES):
                    return True
        except (BlockingIOError, TimeoutError):
            return False
        except OSError as error:  # ssl's own "would block" is an OSError
            return type(error).__name__ not in {"SSLWantReadError", "SSLWantWriteError"}
        finally:
            sock.settimeout(timeout)

    def _connect(self) -> socket.socket:
        config = self._config
        kind = socket.SOCK_DGRAM if config.transport == "udp" else socket.SOCK_STREAM
        problem: OSError = OSError("no address")
        for family, type_, protocol, _, address in socket.getaddrinfo(
            config.host, config.service, type=kind
        ):
            sock = socket.socket(family, type_, protocol)
            sock.settimeout(config.timeout)
            try:
                sock.connect(address)
                if config.transport == "tls":
                    sock = self._tls().wrap_socket(
                        sock, server_hostname=config.server_name or config.host
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
            import ssl  # noqa: PLC0415 - 2 MiB, only if TLS is configured

            config = self._config
            self._context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            if config.certificate and config.key:
                self._context.load_cert_chain(config.certificate, config.key)
        return self._context

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
