"""[[watch.listed_forward]]: what of the hosts behind this one is meant to be reached."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sentryfw.fields import Count, Network, Ports, Section

NUMBERS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
"""IP protocol numbers of the names that may be written."""

Name = Literal["icmp", "tcp", "udp", "icmpv6", "sctp"]


def _as_list(value: object) -> object:
    """One address is as good as a list of one."""
    return [value] if isinstance(value, str) else value


def _protocol(value: object) -> object:
    if isinstance(value, str):
        if value not in NUMBERS:
            raise ValueError(f"{value[:32]!r} is none of {', '.join(NUMBERS)}: write its number")
        return NUMBERS[value]
    return value


Protocol = Annotated[Count, BeforeValidator(_protocol), Field(ge=0, le=255)]


class ListedForward(Section):
    """One entry: addresses, and what is listed there."""

    to: Annotated[tuple[Network, ...], BeforeValidator(_as_list), Field(min_length=1)]
    tcp: tuple[Ports, ...] = ()
    udp: tuple[Ports, ...] = ()
    sctp: tuple[Ports, ...] = ()
    protocols: tuple[Protocol, ...] = ()
    """Whole protocols, by name or number; of those with ports every port."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.tcp or self.udp or self.sctp or self.protocols):
            raise ValueError("lists nothing: name tcp, udp, sctp or protocols")
        return self
