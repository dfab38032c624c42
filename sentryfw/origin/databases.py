"""Databases of countries and autonomous systems: .mmdb files, and libloc's.

Their readers are packages that nothing else needs, so they are loaded when a database is opened.
"""

import importlib
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from sentryfw.config.types import IPAddress
from sentryfw.distribution import distribution_packages
from sentryfw.errors import SentryError
from sentryfw.origin.model import NOWHERE, Origin, as_number, country, name

LIBLOC_MAGIC: Final = b"LOCDBXX"
"""The first bytes of libloc's databases (libloc, src/libloc/format.h)."""
DAMAGE: Final = (
    ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError, struct.error,
)  # fmt: skip
"""Errors of a reader that meets damaged bytes."""
NO_READER: Final = {
    "maxminddb": "apt install python3-maxminddb (pip install maxminddb)",
    "location": "apt install python3-location",
}


class OriginDatabase(Protocol):
    """An open database."""

    built: float
    """Seconds since the epoch."""
    kind: str
    """Its own name for its contents."""

    def find(self, address: IPAddress) -> Origin:
        """Return what the database knows. Raise SentryError if it is broken."""


def open_database(path: Path) -> OriginDatabase:
    """Open a database. Raise SentryError if it is missing, broken, or has no reader."""
    try:
        with path.open("rb") as file:
            head = file.read(len(LIBLOC_MAGIC))
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None
    return LiblocFile(path) if head == LIBLOC_MAGIC else MmdbFile(path)


def age_fault(path: Path, built: float, max_age: float) -> str:
    """Return a sentence about a database that is too old; else an empty text."""
    if time.time() - built <= max_age:
        return ""
    day = time.strftime("%Y-%m-%d", time.gmtime(built))
    return f"{path}: built on {day}, which is older than [geo] max_age: get a newer one"


class MmdbFile:
    """A .mmdb file, as MaxMind, DB-IP, IPinfo and others publish them."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raise SentryError."""
        module = load_reader(path, "maxminddb")
        self._path = path
        self._broken = (module.InvalidDatabaseError, *DAMAGE)
        try:
            self._file: Any = module.open_database(str(path))
            head = self._file.metadata()
            self.built, self.kind = float(head.build_epoch), name(head.database_type)
        except self._broken as error:
            raise SentryError(_broken(path, error)) from None

    def find(self, address: IPAddress) -> Origin:
        """Return what the database knows. Raise SentryError if it is broken."""
        if address.version == 6 and self._file.metadata().ip_version == 4:
            return NOWHERE
        try:
            record = self._file.get(str(address))
        except self._broken as error:
            raise SentryError(_broken(self._path, error)) from None
        return _origin(record) if isinstance(record, Mapping) else NOWHERE


class LiblocFile:
    """A database of libloc (Debian's libloc-database, and `location update`)."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raise SentryError."""
        module = load_reader(path, "location")
        self._path = path
        self.kind = "libloc"
        try:
            self._file: Any = module.Database(str(path))
            self.built = float(self._file.created_at)
        except DAMAGE as error:
            raise SentryError(_broken(path, error)) from None

    def find(self, address: IPAddress) -> Origin:
        """Return what the database knows. Raise SentryError if it is broken."""
        try:
            found = self._file.lookup(str(address))
            if found is None:
                return NOWHERE
            number = as_number(found.asn)
            system = None if number is None else self._file.get_as(number)
        except DAMAGE as error:
            raise SentryError(_broken(self._path, error)) from None
        return Origin(country(found.country_code), number, name(system and system.name))


def _origin(record: Mapping[str, Any]) -> Origin:
    """Return the origin in a record: the keys of GeoLite2 and DB-IP, and those of IPinfo."""
    place = record.get("country") or record.get("registered_country")
    code = place.get("iso_code") if isinstance(place, Mapping) else place
    number = record.get("autonomous_system_number", record.get("asn"))
    organization = record.get("autonomous_system_organization", record.get("as_name"))
    return Origin(
        country(record.get("country_code")) or country(code), as_number(number), name(organization)
    )


def load_reader(path: Path, module: str) -> ModuleType:
    """Return the module that reads a file, importable or from the distribution's directory.

    Raise SentryError.
    """
    try:
        with distribution_packages():
            return importlib.import_module(module)
    except ModuleNotFoundError:
        raise SentryError(f"{path}: its reader is missing: {NO_READER[module]}") from None
    except ImportError as error:
        raise SentryError(_broken(path, error)) from None


def _broken(path: Path, error: BaseException) -> str:
    return f"{path}: cannot be read: {name(str(error)) or type(error).__name__}: get it again"
