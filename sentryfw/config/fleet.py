"""The section [fleet]: the firewalls that this one shares blocks with, and what each may do."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sentryfw.config.types import Count, Duration, Section

MAX_MEMBERS: Final = 1000
MAX_SOURCES: Final = 65536
"""Sources of all members together: the size of the fleet's sets."""
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("a key is 64 hexadecimal digits: `sentryfw fleet key` prints it there")
    return value


def _name(value: str) -> str:
    if value and not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name: letters a-z, digits and hyphens, 32 at most")
    return value


Name = Annotated[str, AfterValidator(_name)]


class FleetMember(Section):
    """Another firewall."""

    key: Annotated[str, AfterValidator(_key)]
    """Its public key, Ed25519, as hexadecimal text."""
    trust: Literal["full", "weigh", "show"] = "weigh"
    """full: its blocks are made here without caps; weigh: by evidence, within the caps; show: they
    are only shown."""
    max_alive: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 2000
    """Sources of its entries in effect at once."""
    per_minute: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 60
    max_time: Duration = 14400.0
    """Longest block."""


class Fleet(Section):
    """Sharing of blocks with other firewalls; off without a name."""

    name: Name = ""
    """The name of this firewall in the fleet."""
    members: Annotated[dict[Name, FleetMember], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=dict
    )
    """The other firewalls by their names."""

    @property
    def mirrors(self) -> bool:
        """Whether a member has full trust: it gets more than blocks of sources."""
        return any(member.trust == "full" for member in self.members.values())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.members and not self.name:
            raise ValueError('members need a name of this firewall: name = "fw1"')
        if "" in self.members:
            raise ValueError("a member has a name")
        if self.name in self.members:
            raise ValueError(f"{self.name} is this firewall, and cannot be a member as well")
        return self
