"""The section [[watch.listed_forward]]: services of the hosts behind this one."""

from typing import Annotated, Final, Literal, Self

from sentryfw.config.form import BeforeValidator, Field, model_validator
from sentryfw.config.types import Count, Network, Ports, Section

NUMBERS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
"""IP protocol numbers by name."""

Name = Literal["icmp", "tcp", "udp", "icmpv6", "sctp"]


def _as_list(value: object) -> object:
    """Return one address as a list."""
    return [value] if isinstance(value, str) else value


def _protocol(value: object) -> object:
    if isinstance(value, str):
        if value not in NUMBERS:
            raise ValueError(f"{value[:32]!r} is not one of {', '.join(NUMBERS)}: write its number")
        return NUMBERS[value]
    return value


Protocol = Annotated[Count, BeforeValidator(_protocol), Field(ge=0, le=255)]


class ListedForward(Section):
    """Addresses, and the ports and protocols that are listed there."""

    to: Annotated[tuple[Network, ...], BeforeValidator(_as_list), Field(min_length=1)]
    tcp: tuple[Ports, ...] = ()
    udp: tuple[Ports, ...] = ()
    sctp: tuple[Ports, ...] = ()
    protocols: tuple[Protocol, ...] = ()
    """Whole protocols, by name or number; all ports of those that have ports."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.tcp or self.udp or self.sctp or self.protocols):
            raise ValueError("lists nothing: name tcp, udp, sctp or protocols")
        return self
