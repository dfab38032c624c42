"""Read the files of a configuration: the named one, and conf.d/*.toml in the same directory.

The files of conf.d are read in the order of their names, each over those before it: tables are
merged key by key, other values are replaced. The file of each value is kept, so that a fault and
`sentryfw config show` can name it.
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.errors import ConfigError

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 14
"""Bytes of a line. tomllib needs memory in the square of the parts of a dotted key: a line of
200 kB fills a host."""
MAX_FILES: Final = 256
MAX_DEPTH: Final = 4
"""Parts of a key path; a known key has at most three."""
DIRECTORY: Final = "conf.d"

KeyPath = tuple[str, ...]
Table = dict[str, Any]


class Sources(NamedTuple):
    """The merged files, and the file of each value."""

    table: Table
    origins: dict[KeyPath, str]
    """File of each value by its key path; defaults are not in it."""
    files: tuple[str, ...]
    """Files that were read, in their order."""
    where: str
    """The named file, which may be missing."""

    def origin(self, path: Iterable[object]) -> str | None:
        """Return the file of a key's value; of a section, the last file with a value in it."""
        words = tuple(map(str, path))
        for length in range(len(words), 0, -1):
            if words[:length] in self.origins:
                return self.origins[words[:length]]
        below = [f for key, f in self.origins.items() if words and key[: len(words)] == words]
        return max(below, key=self.files.index, default=None)


def read(place: Path, *, optional: bool, trial: tuple[Path, Table] | None = None) -> Sources:
    """Read the file and conf.d beside it. `optional`: the file may be missing. `trial`: a file of
    conf.d with the tables that are taken for its contents.

    Raise ConfigError with the faults of all files that cannot be read or are not TOML.
    """
    main = () if optional and _is_missing(place) else (place,)
    instead = dict([trial] if trial else ())
    table: Table = {}
    origins: dict[KeyPath, str] = {}
    files: list[str] = []
    faults: list[tuple[str, str]] = []
    for path in (*main, *sorted({*drop_ins(place), *instead})):
        try:
            found = instead[path] if path in instead else read_file(path)
        except ConfigError as error:
            faults += ((str(path), fault) for fault in error.faults)
            continue
        files.append(str(path))
        _merge(table, found, origins, str(path))
    if faults:
        raise ConfigError(str(place), [f for _, f in faults], [path for path, _ in faults])
    return Sources(table, origins, tuple(files), str(place))


def only(data: bytes, where: str) -> Sources:
    """Return a configuration of these bytes alone. Raise ConfigError if they are not TOML."""
    table: Table = {}
    origins: dict[KeyPath, str] = {}
    _merge(table, to_table(data, where), origins, where)
    return Sources(table, origins, (where,), where)


def drop_ins(place: Path) -> list[Path]:
    """Return conf.d/*.toml beside a configuration file, in the order of their names.

    Hidden files are ignored: editors and package managers make them. Raise ConfigError if the
    directory cannot be read.
    """
    directory = place.parent / DIRECTORY
    try:
        found = sorted(
            path
            for path in directory.iterdir()
            if path.suffix == ".toml" and not path.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(str(directory), [error.strerror or str(error)]) from None
    if len(found) > MAX_FILES:
        raise ConfigError(str(directory), [f"more than {MAX_FILES} files"])
    return found


def to_table(data: bytes, where: str) -> Table:
    """Return the tables of TOML bytes. Raise ConfigError if they are not TOML."""
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(where, [f"larger than {MAX_CONFIG_BYTES} bytes"])
    if max(map(len, data.splitlines()), default=0) > MAX_LINE_BYTES:
        raise ConfigError(where, [f"a line is longer than {MAX_LINE_BYTES} bytes"])
    try:
        return tomllib.loads(data.decode().removeprefix("\N{BYTE ORDER MARK}"))
    except UnicodeDecodeError as error:
        raise ConfigError(where, [f"not UTF-8 at byte {error.start}"]) from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5000 digits
        raise ConfigError(where, [f"not TOML: {str(error)[:200]}"]) from None


def flatten(table: Table, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value with its key path; an empty table is a value, and so is a table deeper than
    any key."""
    for key, value in table.items():
        if isinstance(value, dict) and value and len(path) < MAX_DEPTH - 1:
            yield from flatten(value, (*path, key))
        else:
            yield (*path, key), value


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # it may exist: reading it shows the error
        return False
    return False


def read_file(path: Path) -> Table:
    """Return the tables of one file. Raise ConfigError if it cannot be read or is not TOML."""
    return to_table(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file"]) from None
    except OSError as error:
        raise ConfigError(str(path), [error.strerror or str(error)]) from None


def _merge(table: Table, over: Table, origins: dict[KeyPath, str], file: str) -> None:
    """Merge one file's tables over those of the files before it."""
    for path, value in flatten(over):
        place = table
        for depth, part in enumerate(path[:-1], 1):
            if not isinstance(place.get(part), dict):
                place[part] = {}
                origins.pop(path[:depth], None)
            place = place[part]
        if isinstance(place.get(path[-1]), dict):
            if value == {}:
                continue  # an empty section changes nothing
            for key in [key for key in origins if key[: len(path)] == path]:
                del origins[key]
        place[path[-1]] = value
        origins[path] = file
