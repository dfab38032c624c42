"""Reverse DNS: the name of an address, asked of the resolver with a deadline of our own.

getnameinfo(3) cannot be given up; one datagram and a timeout can. A name is only believed to
be a name: what is not letters, digits and hyphens (RFC 952, RFC 1123 section 2.1) is dropped,
for it ends in logs, mails and terminals.
"""

import re
import secrets
import socket
import struct
import threading
import time
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from sentryfw.config_respond import Dns
from sentryfw.respond.lane import Failed

RESOLV_CONF: Final = Path("/etc/resolv.conf")
PTR: Final = 12
IN: Final = 1
NXDOMAIN: Final = 3
RETRY: Final = 30.0
"""Seconds that nobody is asked after a resolver did not answer."""
MAX_STEPS: Final = 160
"""Labels and jumps of one name; 127 labels fill the 255 bytes it may have."""
MAX_ANSWERS: Final = 16

_HEADER: Final = struct.Struct("!HHHHHH")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)

Address = IPv4Address | IPv6Address


class BadAnswer(ValueError):
    """A DNS message that lies about itself."""


def query(number: int, address: Address) -> bytes:
    """A question for the name of an address, recursion desired (RFC 1035, section 4.1)."""
    name = b"".join(
        bytes((len(label),)) + label.encode() for label in address.reverse_pointer.split(".")
    )
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + name + b"\0" + struct.pack("!HH", PTR, IN)


def answer_name(data: bytes, number: int) -> str:
    """The first name in an answer that can be a host's; empty if there is none. BadAnswer for
    what is no answer to this question."""
    try:
        identity, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
        if identity != number or not flags & 0x8000 or questions > 1:
            raise BadAnswer("no answer to what was asked")
        code = flags & 0xF
        if code not in (0, NXDOMAIN):
            raise BadAnswer(f"the resolver answers with code {code}")
        offset = _HEADER.size
        for _ in range(questions):
            offset = _read_name(data, offset)[1] + 4
        for _ in range(min(answers, MAX_ANSWERS)):
            _, offset = _read_name(data, offset)
            kind, _, _, size = struct.unpack_from("!HHIH", data, offset)
            offset += 10
            if kind == PTR:
                name = clean_name(_read_name(data, offset)[0])
                if name:
                    return name
            offset += size
    except (struct.error, IndexError):
        raise BadAnswer("cut short") from None
    return ""


def clean_name(name: str) -> str:
    """The name without its last dot, if every label is of letters, digits and hyphens."""
    name = name.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return ""
    return name


def _read_name(data: bytes, offset: int) -> tuple[str, int]:
    """A name that may be compressed (RFC 1035, section 4.1.4), and where it ends."""
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
            raise BadAnswer("a label of an unknown kind")
        else:
            label = data[offset + 1 : offset + 1 + size]
            labels.append(label.decode("latin-1").replace(".", "\0"))
            offset += 1 + size
    raise BadAnswer("a name without end")


def resolvers(path: Path = RESOLV_CONF) -> list[str]:
    """The nameserver lines of resolv.conf(5); none: the one on this host."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append(words[1])
    return found[:3] or ["127.0.0.1"]


class Resolver:
    """Names of addresses, with a cache; safe for several threads."""

    def __init__(self, settings: Dns) -> None:
        self._settings = settings
        self._cache: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def cached(self, address: str) -> str | None:
        """The name; empty: it has none; None: not known."""
        with self._lock:
            found = self._cache.get(address)
            return found[1] if found and found[0] > time.monotonic() else None

    def resolve(self, address: str) -> str:
        """The name, or an empty one. Failed if no resolver answers."""
        known = self.cached(address)
        if known is not None:
            return known
        if time.monotonic() < self._silent_until:
            raise Failed("the resolver did not answer lately: not asked")
        name = self._ask(ip_address(address))
        with self._lock:
            self._cache[address] = (time.monotonic() + self._settings.keep, name)
            self._cache.move_to_end(address)
            while len(self._cache) > self._settings.cache:
                self._cache.popitem(last=False)
        return name

    def _ask(self, address: Address) -> str:
        servers = [str(n.network_address) for n in self._settings.servers] or resolvers()
        share = self._settings.timeout / len(servers)
        problem = "no answer"
        for server in servers:
            try:
                return self._ask_server(server, address, share)
            except TimeoutError:
                problem = f"{server}: no answer within {share:g}s"
            except (OSError, BadAnswer) as error:
                problem = f"{server}: {error}"
        self._silent_until = time.monotonic() + RETRY
        raise Failed(problem)

    def _ask_server(self, server: str, address: Address, timeout: float) -> str:
        number = secrets.randbelow(1 << 16)
        deadline = time.monotonic() + timeout
        place = socket.getaddrinfo(
            server, self._settings.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(place[0], socket.SOCK_DGRAM) as sock:
            sock.connect(place[4])  # the kernel drops what others send
            sock.send(query(number, address))
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                sock.settimeout(left)
                data = sock.recv(4096)
                if data[:2] == number.to_bytes(2):  # else: late, or somebody guesses
                    return answer_name(data, number)
