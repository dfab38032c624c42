"""The hub: a Redis or Valkey server, as a member of a fleet sees it.

It uses the connections of redis-py without its pools, retries and callbacks: what a hub answers is
checked by stream_items.py, and the same id makes an entry that is sent twice one entry. An answer
has MAX_REPLY_BYTES at most. redis-py is imported at the first connection, by this program
alone.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sentryfw.config.fleet import FleetHub, HubAddress
from sentryfw.distribution import distribution_packages
from sentryfw.errors import SentryError
from sentryfw.fleet.link.faults import hub_fault
from sentryfw.fleet.link.stream_items import MAX_ID, HubFault, MemberStream, Signed, id_of, streams

PREFIX: Final = "sentryfw:"
STATE: Final = ":state"
TIMEOUT_S: Final = 10.0
BLOCK_S: Final = 5.0
"""Seconds that the hub waits for new entries."""
MAX_READ_ENTRIES: Final = 1000
"""Entries of a member in one answer."""
MAX_REPLY_BYTES: Final = 16 << 20
MAX_STATE_BYTES: Final = 65536
MAX_PASSWORD_BYTES: Final = 512
MISSING: Final = (
    "[fleet.hub] needs the Python package redis: install python3-redis, or sentryfw[fleet] with pip"
)


LIES: Final = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError,
    RecursionError,
)  # fmt: skip
"""Errors of the library, beside its own, about an answer that no server gives."""
Foreign = Any
"""A module, a class or an object of redis-py, which has no types before 5.0."""


def stream_of(member: str) -> str:
    """Return the key of a member's stream."""
    return f"{PREFIX}{member}"


class Hub:
    """One connection with the hub. The methods raise HubFault; then it is closed."""

    def __init__(self, config: FleetHub, own: str) -> None:
        """`own`: the name of this firewall, whose stream this connection may write."""
        self._config = config
        self._own = own
        self._connection: Any = None

    def connect(self) -> None:
        """Connect with the server. Raise HubFault, or SentryError without redis-py."""
        redis = _library()
        self.close()
        faults: list[str] = []
        for address in self._config.addresses:
            try:
                self._connection = self._open(redis, self._server(redis, address))
            except HubFault as fault:
                faults.append(str(fault))
            else:
                return
        raise HubFault("; ".join(dict.fromkeys(faults)))

    def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def last(self, members: Sequence[str]) -> dict[str, int]:
        """Return the last number of each member's stream; 0 where it is empty."""
        commands = [("XREVRANGE", stream_of(name), "+", "-", "COUNT", 1) for name in members]
        return {
            name: id_of(rows[0][0])[0] if rows else 0
            for name, rows in zip(members, map(_rows, self._ask(commands)), strict=True)
        }

    def add(self, entries: Sequence[Signed]) -> int:
        """Add entries to our stream, all or none; return how many were there already."""
        start = "XADD", stream_of(self._own), "MAXLEN", "~", self._config.keep
        items: dict[str, tuple[str, ...]] = {}
        for item in entries:
            items[f"{item.seq}-0"] = "entry", item.entry, "signature", item.signature
            if item.seal is not None:
                seal = "seal", item.seal.text, "signature", item.seal.signature
                items[f"{item.seq}-1"] = seal
        commands = [(*start, name, *fields) for name, fields in items.items()]
        *_, answers = self._ask([("MULTI",), *commands, ("EXEC",)])
        if not isinstance(answers, list) or len(answers) != len(items):
            raise self._failed(HubFault("the hub's answer is not that to a transaction"))
        known = 0
        for name, answer in zip(items, answers, strict=True):
            if isinstance(answer, Exception) and "equal or smaller" in str(answer):
                known += name.endswith("-0")
            elif answer != name.encode():
                raise self._failed(hub_fault(answer))
        return known

    def read(self, after: Mapping[str, int], count: int = MAX_READ_ENTRIES) -> list[MemberStream]:
        """Return the entries of members behind these numbers, `count` of each at most; wait for
        one for BLOCK_S."""
        names = {stream_of(name).encode(): name for name in after}
        ids = [f"{number}-{MAX_ID}" for number in after.values()]
        block = int(BLOCK_S * 1000)
        command = ("XREAD", "COUNT", count, "BLOCK", block, "STREAMS", *names, *ids)
        [answer] = self._ask([command])
        try:
            return streams(answer, names, after, count)
        except HubFault as fault:
            raise self._failed(fault) from None

    def tell(self, text: str) -> None:
        """Replace the report of this member about itself."""
        key = f"{stream_of(self._own)}{STATE}"
        self._ask([("XADD", key, "MAXLEN", "=", 1, "*", "state", text)])

    def told(self, members: Sequence[str]) -> dict[str, bytes]:
        """Return the reports of members about themselves."""
        keys = [f"{stream_of(name)}{STATE}" for name in members]
        answers = self._ask([("XREVRANGE", key, "+", "-", "COUNT", 1) for key in keys])
        found = {}
        for name, rows in zip(members, map(_rows, answers), strict=True):
            fields = rows[0][1] if rows else []
            if isinstance(fields, list) and len(fields) == 2 and isinstance(fields[1], bytes):
                found[name] = fields[1][:MAX_STATE_BYTES]
        return found

    # --- the connection

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once; return their answers. An error among them is raised, but not one
        within the answer to EXEC."""
        redis = _library()
        connection = self._connection
        if connection is None:
            raise HubFault("there is no connection with the hub")
        try:
            connection.bytes_left = MAX_REPLY_BYTES
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands]
        except (redis.exceptions.RedisError, *LIES) as error:
            raise self._failed(hub_fault(error)) from None

    def _failed(self, fault: HubFault) -> HubFault:
        """Close the connection, on which answers may be left; return the fault."""
        self.close()
        return fault

    def _open(self, redis: Foreign, address: HubAddress, *, sentinel: bool = False) -> Foreign:
        connection = bounded(self._class(redis, address))(**self._options(address, sentinel))
        try:
            connection.connect()
        except (redis.exceptions.RedisError, *LIES) as error:
            connection.disconnect()
            raise hub_fault(error, address) from None
        return connection

    def _class(self, redis: Foreign, address: HubAddress) -> Foreign:
        classes = redis.connection
        if address.socket:
            return classes.UnixDomainSocketConnection
        return classes.SSLConnection if address.is_encrypted else classes.Connection

    def _options(self, address: HubAddress, sentinel: bool) -> dict[str, Any]:  # noqa: FBT001
        config = self._config
        options: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "encoding": "ascii"}
        if address.socket:
            options["path"] = address.socket
        else:
            options |= {"host": address.host, "port": address.port}
            options["socket_connect_timeout"] = TIMEOUT_S
        if config.password_file is not None and not sentinel:
            options["username"] = config.user or self._own
            options["password"] = _password(config.password_file)
        if address.is_encrypted:
            options |= {
                "ssl_cert_reqs": "required", "ssl_check_hostname": True,
                "ssl_ca_certs": _text(config.ca), "ssl_certfile": _text(config.certificate),
                "ssl_keyfile": _text(config.key),
            }  # fmt: skip
        return options

    def _server(self, redis: Foreign, address: HubAddress) -> HubAddress:
        """Return the server; where `address` is a Sentinel, the one that this names."""
        if not self._config.sentinels:
            return address
        connection = self._open(redis, address, sentinel=True)
        try:
            command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._config.service)
            connection.send_packed_command(connection.pack_commands([command]))
            host, port = (value.decode("ascii") for value in connection.read_response())
            return HubAddress(host, int(port), address.is_encrypted)
        except (redis.exceptions.RedisError, OSError) as error:
            raise hub_fault(error, address) from None
        except (TypeError, ValueError, AttributeError):
            text = f"the Sentinel {address.host} knows no server {self._config.service!r}"
            raise HubFault(text) from None
        finally:
            connection.disconnect()


def bounded(kind: Foreign) -> Foreign:
    """Return a class of connections whose answers have MAX_REPLY_BYTES at most, and which speak the
    protocol that every version of the library knows."""

    class Bounded(kind):  # type: ignore[misc]
        def __init__(self, **options: Foreign) -> None:
            self.bytes_left = MAX_REPLY_BYTES
            if any("protocol" in inspect.signature(one).parameters for one in kind.__mro__[:-1]):
                options["protocol"] = 2
            super().__init__(**options)

        def _connect(self) -> Foreign:
            return BoundedSocket(super()._connect(), self)

    return Bounded


class BoundedSocket:
    """A socket that reads no more than its owner's `bytes_left` allows."""

    def __init__(self, sock: Foreign, owner: Foreign) -> None:
        self._sock = sock
        self._owner = owner

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._sock, name)

    def recv(self, size: int, *flags: int) -> bytes:
        """Like socket.recv()."""
        data = bytes(self._sock.recv(size, *flags))
        self._count(len(data))
        return data

    def recv_into(self, *arguments: Foreign) -> int:
        """Like socket.recv_into()."""
        count = int(self._sock.recv_into(*arguments))
        self._count(count)
        return count

    def _count(self, count: int) -> None:
        self._owner.bytes_left -= count
        if self._owner.bytes_left < 0:
            raise OSError(f"an answer of more than {MAX_REPLY_BYTES >> 20} MiB")


def _rows(answer: object) -> list[Any]:
    """Return the rows of an answer to XREVRANGE with one row at most. Raise HubFault."""
    if not isinstance(answer, list) or len(answer) > 1:
        raise HubFault("the hub's answer is not a list of items")
    if answer and not (isinstance(answer[0], list) and len(answer[0]) == 2):
        raise HubFault("the hub sent an item that is none")
    return answer


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _password(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PASSWORD_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise SentryError(f"[fleet.hub] password_file: {path}: {why}") from None


def _library() -> Foreign:
    try:
        with distribution_packages():
            import redis  # noqa: PLC0415 - see above
            import redis.connection  # noqa: PLC0415
    except ImportError as error:
        raise SentryError(f"{MISSING} ({error})") from None
    return redis
