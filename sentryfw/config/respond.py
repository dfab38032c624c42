"""The section [respond]: reactions to a scan, each off until it is configured."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Final, Literal

from sentryfw.config.form import AfterValidator, BeforeValidator, Field, model_validator
from sentryfw.config.neighbours import Bgp, Crowdsec
from sentryfw.config.types import Count, Directory, Duration, Network, Section
from sentryfw.config.webhook import Webhook

PLACEHOLDERS: Final = (
    "address", "ip", "port", "protocol", "target", "mode", "scan", "kinds", "targets", "probes",
    "timeout", "offence", "action", "reason", "tool", "host",
)  # fmt: skip
"""Values for a command, as {name} in a word and as SENTRYFW_NAME in its environment."""
TOKENS: Final = {"$TARGET$": "{ip}", "$PORT$": "{port}", "$MODE$": "{mode}"}
"""PortSentry's tokens and their placeholders here."""
FIELD: Final = re.compile(r"\{\{|\}\}|\{([a-z0-9_]+)\}")

_MAIL: Final = re.compile(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}", re.ASCII)


def parse_argv(value: object) -> object:
    """Split PortSentry's command string into words; a list is returned as it is."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"[{}]", lambda brace: brace[0] * 2, value)
    for token, field in TOKENS.items():
        text = text.replace(token, field)
    try:
        words = shlex.split(text)
        operators = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
        operators.whitespace_split = True
        shell = [word for word in operators if word and not word.strip("();<>|&")]
    except ValueError as error:
        raise ValueError(f"{value!r}: {error}") from None
    if shell:
        raise ValueError(f"{shell[0]!r} needs a shell, and no shell is run: write a script")
    return words


def _check_argv(words: tuple[str, ...]) -> tuple[str, ...]:
    if words and not words[0].startswith("/"):
        raise ValueError(f"{words[0]!r} is not an absolute path: PATH is not searched")
    if words and FIELD.search(words[0]):
        raise ValueError("the program itself has no placeholders")
    for word in words:
        for found in FIELD.finditer(word):
            if found[1] and found[1] not in PLACEHOLDERS:
                known = ", ".join(PLACEHOLDERS)
                raise ValueError(f"{found[0]} is not a placeholder; there are {known}")
        if "\0" in word:
            raise ValueError("a word contains a NUL byte")
    return words


def _deny_line(value: str) -> str:
    text = value.replace("$TARGET$", "{address}").strip()
    if "{address}" not in text or not text.isprintable():
        raise ValueError('write one line with {address} in it, like "ALL: {address}"')
    if text.startswith("#") or text.endswith("\\") or text.count("{address}") > 1:
        raise ValueError("write no comment, no continuation, and {address} once")
    return text


def _mail_address(value: str) -> str:
    if not _MAIL.fullmatch(value) or not value.isprintable():
        raise ValueError(f"{value!r} is not a mail address")
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is neither a host name nor an address")
    return value


Argv = Annotated[tuple[str, ...], BeforeValidator(parse_argv), AfterValidator(_check_argv)]
DenyLine = Annotated[str, AfterValidator(_deny_line)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
HostName = Annotated[str, AfterValidator(_host)]
Port = Annotated[Count, Field(ge=1, le=65535)]
Timeout = Annotated[Duration, Field(le=600)]


class Command(Section):
    argv: Argv = ()
    """Program and arguments; PortSentry's string is split into words and never run by a shell."""
    when: Literal["after", "before"] = "after"
    timeout: Timeout = 10.0
    concurrency: Annotated[Count, Field(ge=1, le=32)] = 4
    """Commands that run at once."""


class HostsDeny(Section):
    enabled: bool = False
    path: Directory = Path("/etc/hosts.deny")
    line: DenyLine = "ALL: {address}"


class Route(Section):
    enabled: bool = False


class LocalLog(Section):
    to: Literal["off", "journal", "syslog"] = "off"
    socket: Directory | None = None
    """Socket to write to; None: that of systemd-journald, or of syslogd."""
    timeout: Timeout = 1.0


class RemoteSyslog(Section):
    host: HostName | None = None
    port: Port | None = None
    """Port; None: 514, with TLS 6514."""
    transport: Literal["udp", "tcp", "tls"] = "udp"
    ca: Directory | None = None
    """File of CA certificates; None: the system's."""
    certificate: Directory | None = None
    key: Directory | None = None
    server_name: HostName | None = None
    """Name in the server's certificate, if it is not `host`."""
    facility: Annotated[Count, Field(ge=0, le=23)] = 4
    """Facility (RFC 5424, table 1); 4: security and authorization."""
    enterprise: Annotated[Count, Field(ge=1)] = 32473
    """Private enterprise number of the structured data; the default is for documentation."""
    timeout: Timeout = 5.0
    spool: Annotated[Count, Field(ge=1, le=1000000)] = 10000
    """Messages kept while the server is unreachable; the oldest are dropped first."""

    @property
    def service(self) -> int:
        return self.port or (6514 if self.transport == "tls" else 514)

    @model_validator(mode="after")
    def _check(self) -> "RemoteSyslog":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if self.transport != "tls" and (self.ca or self.certificate or self.server_name):
            raise ValueError('ca, certificate, key and server_name need transport = "tls"')
        return self


class History(Section):
    format: Literal["off", "portsentry1", "portsentry2"] = "off"
    path: Directory = Path("/var/log/sentryfw/portsentry.history")


class Mail(Section):
    to: tuple[MailAddress, ...] = ()
    sender: MailAddress | None = None
    """Sender's address; None: sentryfw@ and this host's name."""
    host: HostName = "localhost"
    port: Port | None = None
    """Port; None: 25, with TLS 465, with STARTTLS 587."""
    security: Literal["none", "starttls", "tls"] = "none"
    ca: Directory | None = None
    credentials: Directory | None = None
    """TOML file with `user` and `password`, mode 0600."""
    mode: Literal["immediate", "digest"] = "immediate"
    throttle: Duration = 300.0
    """Seconds between two immediate mails; blocks in between go into the next one."""
    every: Duration = 86400.0
    """Seconds between two digests."""
    timeout: Timeout = 30.0

    @property
    def service(self) -> int:
        return self.port or {"none": 25, "starttls": 587, "tls": 465}[self.security]

    @model_validator(mode="after")
    def _check(self) -> "Mail":
        local = self.host in {"localhost", "127.0.0.1", "::1"}
        if self.credentials and self.security == "none" and not local:
            raise ValueError('a password needs encryption: security = "starttls" or "tls"')
        if self.ca and self.security == "none":
            raise ValueError('ca needs security = "starttls" or "tls"')
        return self


class Dns(Section):
    enabled: bool = False
    servers: tuple[Network, ...] = ()
    """Name servers; None: those of /etc/resolv.conf."""
    port: Port = 53
    timeout: Annotated[Duration, Field(le=30)] = 2.0
    cache: Annotated[Count, Field(ge=1, le=100000)] = 4096
    keep: Duration = 3600.0
    """Seconds that an answer is cached, also one without a name."""


class Respond(Section):
    command: Command = Field(default_factory=Command)
    hosts_deny: HostsDeny = Field(default_factory=HostsDeny)
    route: Route = Field(default_factory=Route)
    bgp: Bgp = Field(default_factory=Bgp)
    crowdsec: Crowdsec = Field(default_factory=Crowdsec)
    log: LocalLog = Field(default_factory=LocalLog)
    syslog: RemoteSyslog = Field(default_factory=RemoteSyslog)
    history: History = Field(default_factory=History)
    mail: Mail = Field(default_factory=Mail)
    webhook: Annotated[tuple[Webhook, ...], Field(max_length=16)] = ()
    dns: Dns = Field(default_factory=Dns)

    @property
    def needs_root(self) -> bool:
        """Whether a configured reaction needs root."""
        return self.hosts_deny.enabled or bool(self.command.argv)
