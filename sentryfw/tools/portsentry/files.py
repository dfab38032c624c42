"""PortSentry's files: a directory or a portsentry.conf -> the bytes of all of them.

A copy of another machine's /etc/portsentry is read as that machine's: paths in it are searched
below the copied root and next to the file first, and on this machine last.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from sentryfw.errors import NotFound
from sentryfw.tools.portsentry.parse import MAX_BYTES, Settings, parse_settings

DEFAULT: Final = Path("/etc/portsentry")
CONF: Final = "portsentry.conf"
PLACES: Final = (DEFAULT, Path("/usr/local/psionic/portsentry"), Path("/usr/local/etc"))
SUFFIXES: Final = ("", ".tcp", ".udp", ".stcp", ".sudp", ".atcp", ".audp")
"""The suffixes of BLOCKED_FILE: 1.x has one file for each mode."""


class File(NamedTuple):
    """A file, up to MAX_BYTES + 1 bytes of it."""

    path: Path
    data: bytes


class PortSentryFiles(NamedTuple):
    """The files to import."""

    conf: File
    parsed: Settings
    modes: File | None
    """Debian's /etc/default/portsentry."""
    ignore: list[File]
    missing: list[tuple[str, str]]
    """(option, path) of files that the configuration names and that do not exist."""
    seen: list[File]
    """History and blocked files."""


def collect(place: Path | None) -> PortSentryFiles:
    """Read all files. Raise NotFound if portsentry.conf does not exist, or is another file."""
    path = _conf(place)
    conf = _read(path)
    if conf is None:
        raise NotFound(f"{path} does not exist, or is not readable: name the directory of {CONF}")
    parsed = parse_settings(conf.data)
    if not any(name.encode() in conf.data for name in parsed.options):  # prefixes are read, too
        raise NotFound(f"{path} sets none of PortSentry's options: name the directory of {CONF}")
    default = _first(_default_files(path))
    ignore, missing = _ignore_files(path, parsed)
    return PortSentryFiles(conf, parsed, default, ignore, missing, list(_seen_files(path, parsed)))


def _conf(place: Path | None) -> Path:
    if place is None:
        return next((p / CONF for p in PLACES if (p / CONF).is_file()), DEFAULT / CONF)
    return place / CONF if place.is_dir() else place


def _ignore_files(conf: Path, parsed: Settings) -> tuple[list[File], list[tuple[str, str]]]:
    """Return the ignore file and the .static file, from which Debian writes it at each start; and
    what is missing."""
    option = parsed.options.get("IGNORE_FILE")
    named = option.value if option else ""
    found, missing = [], []
    if named:
        static = _first(_candidates(conf, f"{named}.static"))
        file = _first(_candidates(conf, named))
        found = [given for given in (static, file) if given is not None]
        if not found:
            missing.append(("IGNORE_FILE", named))
    return found, missing


def _seen_files(conf: Path, parsed: Settings) -> Iterator[File]:
    for name, suffixes in (("HISTORY_FILE", ("",)), ("BLOCKED_FILE", SUFFIXES)):
        option = parsed.options.get(name)
        for suffix in suffixes if option and option.value else ():
            file = _first(_candidates(conf, option.value + suffix)) if option else None
            if file is not None:
                yield file


def _root(conf: Path) -> Path | None:
    """Return the root above etc/portsentry/portsentry.conf; None for another path."""
    parents = conf.absolute().parents
    if [parent.name for parent in parents[:2]] == ["portsentry", "etc"]:
        return parents[2]
    return None


def _default_files(conf: Path) -> Iterator[Path]:
    root = _root(conf)
    yield (root or Path("/")) / "etc/default/portsentry"


def _candidates(conf: Path, named: str) -> Iterator[Path]:
    """Yield the places of a file: below the copied root, next to the configuration, as named."""
    relative = PurePosixPath(named)
    root = _root(conf)
    if root is not None and relative.is_absolute():
        yield root / relative.relative_to("/")
    yield conf.parent / relative.name
    if relative.is_absolute() and (root is None or root == Path("/")):
        yield Path(named)


def _first(paths: Iterator[Path]) -> File | None:
    return next((file for file in map(_read, paths) if file is not None), None)


def _read(path: Path) -> File | None:
    """Read a file; None if it does not exist."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as opened:
            return File(path, opened.read(MAX_BYTES + 1))
    except (OSError, ValueError):  # ValueError: a NUL in a path
        return None
