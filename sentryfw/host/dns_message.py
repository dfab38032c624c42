"""DNS queries and their answers, by UDP, with a deadline of our own (RFC 1035).

getaddrinfo(3) cannot be interrupted and gives no TTL; a datagram with a timeout can, and does.
"""

import socket
import struct
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

RESOLV_CONF: Final = Path("/etc/resolv.conf")
MAX_RESOLVERS: Final = 3
"""MAXNS of resolv.conf(5)."""
IN: Final = 1
NXDOMAIN: Final = 3
MAX_STEPS: Final = 160
"""Labels and jumps of one name; 127 labels fill the 255 bytes it may have."""
MAX_ANSWERS: Final = 32

_HEADER: Final = struct.Struct("!HHHHHH")


class BadAnswer(ValueError):
    """A DNS message is malformed, or does not answer the query."""


class DnsRecord(NamedTuple):
    """A resource record of an answer; its data are in the message."""

    owner: str
    kind: int
    ttl: int
    start: int
    """Offset of the data in the message."""
    size: int


class DnsAnswer(NamedTuple):
    """The question that an answer repeats, and its records."""

    name: str
    kind: int
    records: list[DnsRecord]


def question(number: int, name: str, kind: int) -> bytes:
    """Return a query for one kind of record, recursion desired (RFC 1035, section 4.1)."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, IN)


def parse_answer(data: bytes, number: int) -> DnsAnswer:
    """Return the records of an answer, none of a name that does not exist.

    Raise BadAnswer if the message does not answer the query with this number.
    """
    try:
        identity, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
        if identity != number or not flags & 0x8000 or questions > 1:
            raise BadAnswer("the message does not answer the query")
        code = flags & 0xF
        if code not in (0, NXDOMAIN):
            raise BadAnswer(f"the resolver answered with code {code}")
        found = DnsAnswer("", 0, [])
        offset = _HEADER.size
        for _ in range(questions):
            name, offset = read_name(data, offset)
            found = DnsAnswer(name, int.from_bytes(data[offset : offset + 2]), [])
            offset += 4
        for _ in range(min(answers, MAX_ANSWERS)):
            owner, offset = read_name(data, offset)
            kind, _, ttl, size = struct.unpack_from("!HHIH", data, offset)
            offset += 10
            found.records.append(DnsRecord(owner, kind, ttl, offset, size))
            offset += size
    except (struct.error, IndexError):
        raise BadAnswer("the message is cut short") from None
    return found


def read_name(data: bytes, offset: int) -> tuple[str, int]:
    """Return a name, maybe compressed (RFC 1035, section 4.1.4), and the offset of its end.

    Raise BadAnswer, or IndexError if the message is cut short.
    """
    labels: list[str] = []
    end = 0
    for _ in range(MAX_STEPS):
        size = data[offset]
        if size >= 0xC0:
            end = end or offset + 2
            offset = (size & 0x3F) << 8 | data[offset + 1]
        elif size == 0:
            return ".".join(labels), end or offset + 1
        elif size > 63:
            raise BadAnswer("a label has an unknown type")
        else:
            label = data[offset + 1 : offset + 1 + size]
            labels.append(label.decode("latin-1").replace(".", "\0"))
            offset += 1 + size
    raise BadAnswer("a name does not end")


def exchange(server: str, port: int, query: bytes, timeout: float) -> bytes:
    """Send a query to a server, and return the message with its number. Raise TimeoutError or
    OSError."""
    deadline = time.monotonic() + timeout
    place = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
    with socket.socket(place[0], socket.SOCK_DGRAM) as sock:
        sock.connect(place[4])  # the kernel drops datagrams of others
        sock.send(query)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            data = sock.recv(4096)
            if data[:2] == query[:2]:  # else: late, or a forged answer
                return data


def resolvers(path: Path = RESOLV_CONF) -> list[str]:
    """Return the nameservers that libc asks; the one on this host if there are none."""
    return nameservers(path)[:MAX_RESOLVERS] or ["127.0.0.1"]


def nameservers(path: Path) -> list[str]:
    """Return the nameservers of a resolv.conf(5), with their zones; none if it is missing."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append(words[1])
    return found
