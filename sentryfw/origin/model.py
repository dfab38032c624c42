"""The origin of a source as a value, in words, and in the names of Elastic's Common Schema."""

import re
from typing import Final, NamedTuple, TypedDict

from sentryfw.text import plain

MAX_NAME_CHARS: Final = 64
"""Characters of a label or of an organization's name."""
MAX_AS_NUMBER: Final = 0xFFFFFFFF
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class GeoItem(TypedDict):
    """ECS's fields `source.geo`."""

    country_iso_code: str | None


class OrganizationItem(TypedDict):
    """ECS's fields `source.as.organization`."""

    name: str | None


class AsItem(TypedDict):
    """ECS's fields `source.as`."""

    number: int | None
    organization: OrganizationItem


OriginItem = TypedDict("OriginItem", {"geo": GeoItem, "as": AsItem, "labels": list[str]})
"""An origin in JSON: ECS's names below `source`, and the labels."""


class Origin(NamedTuple):
    """The origin of a source, as far as it is known."""

    country: str = ""
    """Two letters of ISO 3166-1."""
    as_number: int | None = None
    organization: str = ""
    """The name of the autonomous system's organization."""
    labels: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no database can add anything."""
        return bool(self.country and self.as_number and self.organization)

    def or_else(self, other: "Origin") -> "Origin":
        """Return this origin with the country and the autonomous system of another one, where it
        lacks them. Number and name of a system are of one database."""
        known = self if self.as_number is not None else other
        return Origin(
            self.country or other.country, known.as_number, known.organization, self.labels
        )

    def item(self) -> OriginItem:
        """Return the origin as JSON."""
        return {
            "geo": {"country_iso_code": self.country or None},
            "as": {"number": self.as_number, "organization": {"name": self.organization or None}},
            "labels": list(self.labels),
        }

    @property
    def network(self) -> str:
        """The autonomous system in words: AS64500 Example; empty if it is not known."""
        return "" if self.as_number is None else f"AS{self.as_number} {self.organization}".strip()

    def __str__(self) -> str:
        """Return the origin in words: DE, AS64500 Example, Research scanner."""
        return ", ".join(part for part in (self.country, self.network, *self.labels) if part)


NOWHERE: Final = Origin()


def origin_text(item: OriginItem) -> str:
    """Return an origin that is JSON in words."""
    system = item["as"]
    origin = Origin(
        item["geo"]["country_iso_code"] or "", system["number"],
        system["organization"]["name"] or "", tuple(item["labels"]),
    )  # fmt: skip
    return str(origin)


def country(value: object) -> str:
    """Return a country's code out of a database; empty if it is none."""
    return value if isinstance(value, str) and _COUNTRY.fullmatch(value) else ""


def as_number(value: object) -> int | None:
    """Return a number of an autonomous system (64500, "AS64500"); None if it is none."""
    if isinstance(value, str) and value.removeprefix("AS").isdecimal() and len(value) <= 12:
        value = int(value.removeprefix("AS"))
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= MAX_AS_NUMBER else None


def name(value: object) -> str:
    """Return a name of a foreign file, printable and short; empty for another value."""
    return plain(" ".join(value[: 4 * MAX_NAME_CHARS].split()))[:MAX_NAME_CHARS] if isinstance(
        value, str
    ) else ""  # fmt: skip
