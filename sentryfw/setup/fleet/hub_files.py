"""The files of a hub: the configuration of a Redis or Valkey server, its users, its authority.

Running it again adds members, or gives those that are named new certificates; the others keep
theirs. See docs/decisions.md: fleet-hub.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.config.fleet import MAX_MEMBERS, FleetMember
from sentryfw.errors import SentryError, UsageError
from sentryfw.fleet.entry import is_name
from sentryfw.fleet.link.hub import PREFIX, STATE, stream_of
from sentryfw.host.private_files import open_no_link
from sentryfw.setup.fleet.authority import Credential, issue, make_authority
from sentryfw.setup.fleet.invitation import Access, Invitation

HUB_TLS_PORT: Final = 6380
MAX_FILE_BYTES: Final = 4 << 20
PASSWORD_BYTES: Final = 24
GROUPS: Final = ("redis", "valkey", "_redis")
"""Groups of the server's user, in Debian, Fedora and Alpine."""
COMMANDS: Final = (
    "+xadd +xtrim +xread +xrevrange +multi +exec +discard +ping +client|setname +hello +auth"
)
SERVER: Final = """\
# The hub of a SentryFW fleet: written by `sentryfw fleet init`, which writes it again.
port 0
tls-port {port}
bind {bind}
protected-mode no
tls-cert-file {directory}/hub.pem
tls-key-file {directory}/hub.key
tls-ca-cert-file {directory}/ca.pem
tls-auth-clients yes
aclfile {directory}/users.acl
# A hub that is killed keeps every entry that it acknowledged; one that loses power may lack those
# of the last second, which the members send again.
appendonly yes
appendfsync everysec
appenddirname sentryfw
dbfilename sentryfw.rdb
save ""
dir {data}
# Full is an error that the members report; nothing is removed unasked.
maxmemory {memory}
maxmemory-policy noeviction
# An entry has one KiB.
proto-max-bulk-len 1mb
client-query-buffer-limit 1mb
tcp-keepalive 60
"""


class HubPlan(NamedTuple):
    """An operator's choices about a hub."""

    hosts: tuple[str, ...]
    """Addresses or names by which members reach it; the first is in the invitations."""
    port: int = HUB_TLS_PORT
    bind: str = "* -::*"
    data: str = "/var/lib/redis"
    memory: str = "512mb"


class HubFiles:
    """The directory of a hub."""

    def __init__(self, directory: Path, group: int = -1) -> None:
        """`group`: that of the server's user, which may read; -1: root's alone."""
        self.directory = directory
        self._group = group

    def write(self, plan: HubPlan, keys: Mapping[str, str], now: datetime) -> dict[str, Invitation]:
        """Make or extend the hub by members with these signing keys; return an invitation for each
        member: those that were there before get the new keys alone. Raise SentryError."""
        _check(plan, keys)
        self._make_directory()
        known = self._known()
        authority = self._authority(now)
        password = {name: secrets.token_urlsafe(PASSWORD_BYTES) for name in keys}
        members = known | {
            name: {"key": key, "password": hashlib.sha256(password[name].encode()).hexdigest()}
            for name, key in keys.items()
        }
        if len(members) > MAX_MEMBERS:
            raise UsageError(f"a fleet has {MAX_MEMBERS} members at most")
        hub = issue(authority, "sentryfw hub", now, plan.hosts)
        self._write("hub.key", hub.key, 0o640)
        self._write("hub.pem", hub.certificate, 0o640)
        self._write("users.acl", users(members), 0o640)
        self._write("redis.conf", self.server(plan), 0o640)
        self._write("members.json", json.dumps(members, indent=1), 0o600)
        url = f"rediss://{_host(plan.hosts[0])}:{plan.port}"
        return {
            name: Invitation(
                {other: str(member["key"]) for other, member in members.items() if other != name},
                Access(
                    name, url, authority.certificate, issue(authority, name, now), password[name]
                )
                if name in keys
                else None,
            )
            for name in members
        }

    def server(self, plan: HubPlan) -> str:
        """Return the server's configuration."""
        return SERVER.format(
            port=plan.port, bind=plan.bind, directory=self.directory, data=plan.data,
            memory=plan.memory,
        )  # fmt: skip

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.chown(self.directory, -1, self._group)
        except OSError as error:
            raise SentryError(f"{self.directory}: {error.strerror}") from None

    def _authority(self, now: datetime) -> Credential:
        certificate, key = self._read("ca.pem"), self._read("ca.key")
        if certificate is None and key is None:
            made = make_authority(f"SentryFW fleet {now.date().isoformat()}", now)
            self._write("ca.key", made.key, 0o600)
            self._write("ca.pem", made.certificate, 0o640)
            return made
        if certificate is None or key is None:
            raise SentryError(
                f"{self.directory}: one of ca.pem and ca.key is missing: restore it, or remove"
                " both; then every member joins again"
            )
        return Credential(certificate, key)

    def _known(self) -> dict[str, dict[str, Any]]:
        text = self._read("members.json")
        if text is None:
            return {}
        try:
            return {
                str(name): {"key": str(member["key"]), "password": str(member["password"])}
                for name, member in json.loads(text).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise SentryError(
                f"{self.directory / 'members.json'} is damaged: restore it, or remove it and name"
                " every member again"
            ) from None

    def _read(self, name: str) -> str | None:
        try:
            with os.fdopen(open_no_link(self.directory / name, os.O_RDONLY), "rb") as file:
                return file.read(MAX_FILE_BYTES).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SentryError(f"{self.directory / name}: {error.strerror}") from None

    def _write(self, name: str, text: str, mode: int) -> None:
        write_private(self.directory / name, text, mode, -1 if mode == 0o600 else self._group)


def users(members: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the server's users: each member writes its own streams, reads all, and does nothing
    else."""
    lines = ["user default off resetpass resetkeys resetchannels -@all"]
    lines += [
        f"user {name} on #{member['password']} resetkeys %W~{stream_of(name)}"
        f" %W~{stream_of(name)}{STATE} %R~{PREFIX}* resetchannels -@all {COMMANDS}"
        for name, member in sorted(members.items())
    ]
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str, mode: int, group: int) -> None:
    """Replace a file of root's, flushed to disk. Raise SentryError, with nothing changed."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = open_no_link(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise SentryError(f"{path}: {error.strerror}") from None


def _check(plan: HubPlan, keys: Mapping[str, str]) -> None:
    if not plan.hosts:
        raise UsageError("name the hub's address: --address 192.0.2.1")
    for host in plan.hosts:
        if not host or any(char in host for char in "/@[] \n\"'") or not host.isascii():
            raise UsageError(f"{host!r} is not an address or a name of a host")
    for name, key in keys.items():
        if not is_name(name):
            raise UsageError(
                f"{name!r} is not a member's name: letters a-z, digits and hyphens, 32 at most"
            )
        try:
            FleetMember(key=key)
        except ValueError:
            raise UsageError(
                f"the key of {name} is not 64 hexadecimal digits: `sentryfw fleet key` prints it"
                " there"
            ) from None


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def today() -> datetime:
    """Return now."""
    return datetime.now(UTC)
