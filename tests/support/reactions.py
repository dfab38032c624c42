"""Helpers for tests of reactions: incidents, reported results, certificates, servers."""

import base64
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from sentryfw.record.records import Reaction
from sentryfw.respond.incident import Incident
from sentryfw.tools.drill.namespace import Namespace

AT: Final = 1_800_000_000.25
INCIDENT: Final = Incident(
    action="blocked",
    address="198.18.0.2",
    ip="198.18.0.2",
    protocol="tcp",
    port=111,
    target="198.18.0.1",
    kind="syn",
    mode="atcp",
    scan="portscan",
    kinds=("syn", "udp"),
    targets=3,
    probes=5,
    first_seen=AT - 2,
    at=AT,
    timeout=3600.0,
    offence=1,
    forgeable=True,
    tool="nmap",
    reason="3 distinct targets within the window",
)
SIX: Final = INCIDENT._replace(address="2001:2:0:1::/64", ip="2001:2:0:1::2", target="2001:2::1")
REFUSED: Final = INCIDENT._replace(action="refused", timeout=0.0, offence=0, reason="observe")


class Results(list[Reaction]):
    """Reported results; a call reports one."""

    def __call__(self, result: Reaction) -> None:
        self.append(result)

    def failures(self) -> list[Reaction]:
        return [result for result in self if not result.ok]


class Certificate(NamedTuple):
    certificate: Path
    key: Path


def make_certificate(directory: Path, name: str = "127.0.0.1") -> Certificate:
    """Make a self-signed certificate with openssl(1)."""
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    kind = "IP" if name[0].isdecimal() or ":" in name else "DNS"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
            f"subjectAltName={kind}:{name}", "-keyout", made.key, "-out", made.certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


class Server:
    """A TCP server on 127.0.0.1 of a namespace, with a thread for each connection."""

    def __init__(self, namespace: Namespace, certificate: Certificate | None = None) -> None:
        self.connections: list[socket.socket] = []
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._namespace = namespace
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def _listen(self, port: int) -> socket.socket:
        listener = self._namespace.call(lambda: socket.create_server(("127.0.0.1", port)))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def go_away(self) -> None:
        """Refuse connections, and close the open ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def come_back(self) -> None:
        self._listener = self._listen(self.port)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self.talk(connection)

    def secured(self, connection: socket.socket) -> socket.socket:
        assert self._context is not None
        secured = self._context.wrap_socket(connection, server_side=True)
        self.connections.append(secured)
        return secured

    def talk(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        raise NotImplementedError


class SyslogServer(Server):
    """A syslog server: RFC 6587 with octet counting, over TLS if it has a certificate."""

    def __init__(self, *arguments: Any) -> None:
        self.messages: list[str] = []
        super().__init__(*arguments)

    def talk(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self.secured(connection)
        with connection.makefile("rb") as stream:
            while digits := _until_space(stream):
                data = stream.read(int(digits))
                if len(data) < int(digits):
                    return  # cut off: not a message
                self.messages.append(data.decode("ascii"))


def _until_space(stream: Any) -> bytes:
    digits = b""
    while (char := stream.read(1)) not in {b"", b" "}:
        digits += char
    return digits


class SmtpServer(Server):
    """An SMTP server: the part of RFC 5321 that smtplib uses, with STARTTLS and AUTH PLAIN."""

    def __init__(
        self, *arguments: Any, implicit: bool = False, login: tuple[str, str] | None = None
    ) -> None:
        self.mails: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []
        self._implicit = implicit
        self._login = login
        super().__init__(*arguments)

    def talk(self, connection: socket.socket) -> None:
        encrypted = self._implicit
        if self._implicit:
            connection = self.secured(connection)
        self._say(connection, "220 test ESMTP")
        stream = connection.makefile("rb")
        while line := stream.readline().decode().strip():
            word, _, rest = line.partition(" ")
            word = word.upper()
            if word == "STARTTLS":
                self._say(connection, "220 go ahead")
                connection = self.secured(connection)
                stream = connection.makefile("rb")
                encrypted = True
            elif word == "EHLO":
                offers = ["250-test", "250-AUTH PLAIN"]
                if self._context is not None and not encrypted:
                    offers.append("250-STARTTLS")
                self._say(connection, *offers, "250 8BITMIME")
            elif word == "AUTH":
                self._authenticate(connection, rest)
            elif word == "DATA":
                self._say(connection, "354 go on")
                self.mails.append(_mail(stream))
                self.encrypted.append(encrypted)
                self._say(connection, "250 taken")
            elif word == "QUIT":
                self._say(connection, "221 bye")
                return
            else:
                self._say(connection, "250 ok")

    def _authenticate(self, connection: socket.socket, rest: str) -> None:
        _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
        self.logins.append((user, password))
        if self._login in (None, (user, password)):
            self._say(connection, "235 welcome")
        else:
            self._say(connection, f"535 no: {rest}")  # a server that repeats the login

    def _say(self, connection: socket.socket, *lines: str) -> None:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())


def _mail(stream: Any) -> str:
    lines: list[bytes] = []
    while (line := stream.readline()) not in {b".\r\n", b""}:
        lines.append(line)
    return b"".join(lines).decode()


class SilentServer(Server):
    """A server that accepts connections, and neither writes nor reads."""

    def talk(self, connection: socket.socket) -> None:
        threading.Event().wait()
