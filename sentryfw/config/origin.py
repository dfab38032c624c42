"""The sections [geo] and [labels]: files that say where a source comes from, and what it is."""

from typing import Annotated, Final, NamedTuple

from sentryfw.config.form import Field
from sentryfw.config.types import Directory, Duration, Section


class Geo(Section):
    """Databases of countries and autonomous systems, shown and never a reason for a verdict."""

    databases: Annotated[tuple[Directory, ...], Field(max_length=8)] = ()
    """Files: .mmdb (python3-maxminddb), or libloc's (python3-location); the first that knows a
    value gives it."""
    max_age: Duration = 15552000.0
    """Age of a database from which on a remark follows."""


class Labels(Section):
    """Names of networks: research scanners, for example."""

    files: Annotated[tuple[Directory, ...], Field(max_length=64)] = ()
    """Warning lists of MISP (JSON), or text with a network and a name in each line."""


class OriginFiles(NamedTuple):
    """Both sections."""

    geo: Geo
    labels: Labels

    @property
    def is_wanted(self) -> bool:
        """Whether any file is configured."""
        return bool(self.geo.databases or self.labels.files)


NO_FILES: Final = OriginFiles(Geo.model_construct(), Labels.model_construct())
