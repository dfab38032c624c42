"""The files that a configuration is made of: the one that is named, and conf.d/*.toml beside it.

The files of conf.d are read in the order of their names, each over what came before: tables are
merged key by key, everything else is replaced. Where a value came from is kept, so that a fault
names its file and `sentryfw config show` can tell.
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.errors import ConfigError

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 14
"""tomllib needs memory in the square of the parts of a dotted key: 200 kB of them fill a host."""
MAX_FILES: Final = 256
MAX_DEPTH: Final = 4
"""Parts of a key path; no key has more than three."""
DIRECTORY: Final = "conf.d"

KeyPath = tuple[str, ...]
Table = dict[str, Any]


class Sources(NamedTuple):
    """What the files say, and which of them says what."""

    table: Table
    origins: dict[KeyPath, str]
    """The file of each value, by its key path; no entry: the default."""
    files: tuple[str, ...]
    """Those that were read, in their order."""
    where: str
    """The file that was named, whether it is there or not."""

    def origin(self, path: Iterable[object]) -> str | None:
        """The file that a key has its value from; of a section, the last that had a say in it."""
        words = tuple(map(str, path))
        for length in range(len(words), 0, -1):
            if words[:length] in self.origins:
                return self.origins[words[:length]]
        below = [f for key, f in self.origins.items() if words and key[: len(words)] == words]
        return max(below, key=self.files.index, default=None)


def read(place: Path, *, optional: bool) -> Sources:
    """The file and conf.d beside it. `optional`: the file need not be there. ConfigError with the
    faults of all files that cannot be read, or are no TOML."""
    main = () if optional and _is_missing(place) else (place,)
    table: Table = {}
    origins: dict[KeyPath, str] = {}
    files: list[str] = []
    faults: list[tuple[str, str]] = []
    for path in (*main, *drop_ins(place)):
        try:
            found = to_table(_read(path), str(path))
        except ConfigError as error:
            faults += ((str(path), fault) for fault in error.faults)
            continue
        files.append(str(path))
        _merge(table, found, origins, str(path))
    if faults:
        raise ConfigError(str(place), [f for _, f in faults], [path for path, _ in faults])
    return Sources(table, origins, tuple(files), str(place))


def only(data: bytes, where: str) -> Sources:
    """TOML bytes that stand for themselves. ConfigError if they are none."""
    table: Table = {}
    origins: dict[KeyPath, str] = {}
    _merge(table, to_table(data, where), origins, where)
    return Sources(table, origins, (where,), where)


def drop_ins(place: Path) -> list[Path]:
    """conf.d/*.toml beside a configuration file, in the order of their names; hidden files are
    an editor's or a package manager's. ConfigError if the directory cannot be looked through."""
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
    """TOML -> tables. ConfigError if it is none."""
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(where, [f"larger than {MAX_CONFIG_BYTES} bytes"])
    if max(map(len, data.splitlines()), default=0) > MAX_LINE_BYTES:
        raise ConfigError(where, [f"a line is longer than {MAX_LINE_BYTES} bytes"])
    try:
        return tomllib.loads(data.decode().removeprefix("\N{BYTE ORDER MARK}"))
    except UnicodeDecodeError as error:
        raise ConfigError(where, [f"not UTF-8 at byte {error.start}"]) from None
    except (ValueError, RecursionError) as error:  # a plain ValueError: a number of 5000 digits
        raise ConfigError(where, [f"no TOML: {str(error)[:200]}"]) from None


def flatten(table: Table, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value with its key path; an empty table is a value, and so is one deeper than keys
    go."""
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
    except OSError:  # it is there, or it may be: reading it tells
        return False
    return False


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file"]) from None
    except OSError as error:
        raise ConfigError(str(path), [error.strerror or str(error)]) from None


def _merge(table: Table, over: Table, origins: dict[KeyPath, str], file: str) -> None:
    """Put one file's tables over what came before."""
    for path, value in flatten(over):
        place = table
        for depth, part in enumerate(path[:-1], 1):
            if not isinstance(place.get(part), dict):
                place[part] = {}
                origins.pop(path[:depth], None)
            place = place[part]
        if isinstance(place.get(path[-1]), dict):
            if value == {}:
                continue  # an empty section says nothing
            for key in [key for key in origins if key[: len(path)] == path]:
                del origins[key]
        place[path[-1]] = value
        origins[path] = file
