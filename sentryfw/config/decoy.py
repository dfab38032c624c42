"""The section [decoy]: ports that look open."""

from typing import Annotated, Final

from sentryfw.config.form import AfterValidator, Field
from sentryfw.config.types import Count, Duration, Ports, Section

MAX_BANNER_BYTES: Final = 512
"""Bytes of a banner: one datagram, one segment."""


def _banner(value: str) -> str:
    if len(value.encode()) > MAX_BANNER_BYTES:
        raise ValueError(f"longer than {MAX_BANNER_BYTES} bytes")
    return value


Banner = Annotated[str, AfterValidator(_banner)]


class Decoy(Section):
    """Ports that look open: PortSentry's modes tcp and udp."""

    tcp: tuple[Ports, ...] = ()
    udp: tuple[Ports, ...] = ()
    banner: Banner = ""
    """Text sent to a client that connects, and to a source blocked for a datagram."""
    port: Annotated[Count, Field(ge=1, le=65535)] = 5278
    """Port of the listener behind all decoys; it is reached through a decoy only."""
    connections: Annotated[Count, Field(ge=1, le=4096)] = 256
    """Connections open at once; more are closed immediately, and are evidence as well."""
    timeout: Annotated[Duration, Field(le=60)] = 5.0
    """Seconds that a connection may take to send its first bytes."""
    hold: Annotated[Duration, Field(le=86400)] | None = None
    """Seconds for which a visitor is kept with a closed window; None: it is dismissed."""

    @property
    def wanted(self) -> bool:
        """Whether a decoy is needed: without a banner, a UDP port is silent."""
        return bool(self.tcp or self.answered)

    @property
    def answered(self) -> frozenset[int]:
        """Return the UDP ports that answer with the banner."""
        return _ports(self.udp if self.banner else ())

    @property
    def tcp_ports(self) -> frozenset[int]:
        """Return the TCP ports."""
        return _ports(self.tcp)


def _ports(ranges: tuple[Ports, ...]) -> frozenset[int]:
    return frozenset(port for first, last in ranges for port in range(first, last + 1))
