"""The origins of sources, by the operator's files. Used by commands and helpers, not the daemon."""

from ipaddress import ip_network
from pathlib import Path
from typing import Final

from sentryfw.config.model import Config
from sentryfw.config.origin import Geo, Labels
from sentryfw.config.types import unmapped
from sentryfw.errors import SentryError
from sentryfw.origin.databases import OriginDatabase, age_fault, open_database
from sentryfw.origin.labels import LabelTable
from sentryfw.origin.model import NOWHERE, Origin

SOURCE_BITS: Final = {4: 32, 6: 64}
"""Prefix lengths from which on a network has one origin: those of sources."""


class Origins:
    """The files, opened at the first question; a file with a fault costs its own answers only."""

    def __init__(self, geo: Geo, labels: Labels) -> None:
        self._geo = geo
        self._files = labels.files
        self._databases: dict[Path, OriginDatabase] | None = None
        self._labels: LabelTable | None = None
        self.faults: list[str] = []
        """One sentence for each file that is missing, broken or old, in the order of discovery."""

    @classmethod
    def of_config(cls, config: Config) -> "Origins":
        """Return the origins by a configuration."""
        return cls(config.geo, config.labels)

    @property
    def is_wanted(self) -> bool:
        """Whether any file is configured."""
        return bool(self._geo.databases or self._files)

    def of(self, source: str) -> Origin:
        """Return the origin of a source; of a larger network, or of other text, nothing."""
        if not self.is_wanted:
            return NOWHERE
        try:
            network = ip_network(source.partition("%")[0], strict=False)
        except ValueError:
            return NOWHERE
        if network.prefixlen < SOURCE_BITS[network.version]:
            return NOWHERE
        address = unmapped(network.network_address)
        if self._labels is None:
            self._labels = LabelTable(self._files)
            self.faults += self._labels.faults
        found = Origin(labels=self._labels.of(address))
        for path, database in list(self.databases().items()):
            if found.is_complete:
                break
            try:
                found = found.or_else(database.find(address))
            except SentryError as error:
                del self.databases()[path]
                self.faults.append(str(error))
        return found

    def databases(self) -> dict[Path, OriginDatabase]:
        """Return the databases that could be opened."""
        if self._databases is None:
            self._databases = {}
            for path in self._geo.databases:
                try:
                    found = open_database(path)
                except SentryError as error:
                    self.faults.append(str(error))
                    continue
                self._databases[path] = found
                old = age_fault(path, found.built, self._geo.max_age)
                self.faults += [old] if old else []
        return self._databases
