"""Change single keys: the tables of conf.d/99-set.toml, the file that `sentryfw config set` keeps.

The values of a command line are words. A word is TOML where that is what the key takes, else text;
a list can be several words.
"""

import copy
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw import config
from sentryfw.config import Loaded, files, validated
from sentryfw.config.files import MAX_DEPTH, MAX_LINE_BYTES, KeyPath, Table
from sentryfw.config.toml_text import to_text
from sentryfw.errors import ConfigError, NotFound, UsageError

FILE: Final = "99-set.toml"
HEAD: Final = """\
# Written by `sentryfw config set` and `sentryfw config unset`. Values changed here are kept,
# comments are not.
"""
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
LISTS_OF_TABLES: Final = (("zone",), ("respond", "webhook"), ("watch", "listed_forward"))
"""Keys whose values are tables without names."""
_VALUES: Final = (bool, int, float, str, list, dict)
"""Types of values that a key can take; dates are text."""

_WRONG_TYPE: Final = re.compile(r"\S+: write ")
"""Begins a fault of the type (faults.py), less helpful than one of the value."""


class Edited(NamedTuple):
    """The changed file, and the configuration with it."""

    text: str
    loaded: Loaded | None
    """None: the files have other faults."""
    faults: ConfigError | None
    """Faults that the files had before, and have still."""


def place_of(path: Path | None) -> Path:
    """Return the path of the file that is changed, of the configuration `path` names."""
    return (path or config.DEFAULT_PATH).parent / files.DIRECTORY / FILE


def key_path(key: str) -> KeyPath:
    """Return the parts of a key such as "detect.trigger". Raise UsageError for other text."""
    path = tuple(key.split("."))
    if not _KEY.fullmatch(key) or len(path) > MAX_DEPTH:
        raise UsageError(f'{key[:64]!r} is not a key: write one like "detect.trigger"')
    return path


def with_key(path: Path | None, key: str, words: Sequence[str]) -> Edited:
    """Return the file with a key set to what the words mean.

    Raise ConfigError with the faults that this would make, or where the file of another name
    would override it.
    """
    if any(len(word.encode(errors="replace")) > MAX_LINE_BYTES // 2 for word in words):
        raise UsageError(f"more than {MAX_LINE_BYTES // 2} bytes in a value: edit a file of conf.d")
    where = key_path(key)
    _require_no_list_of_tables(where, words)
    own = _own(path)
    refused: list[ConfigError] = []
    for value in readings(words):
        try:
            edited = _tried(path, _with(own, where, value))
        except ConfigError as error:
            refused.append(error)
            continue
        _require_effect(path, where, edited)
        return edited
    raise min(refused, key=lambda error: _WRONG_TYPE.match(error.faults[0]) is not None)


def _require_no_list_of_tables(where: KeyPath, words: Sequence[str]) -> None:
    """Raise UsageError for a key in a list of tables: which one is meant?"""
    for known in LISTS_OF_TABLES:
        is_whole = where == known and any(_is_tables(value) for value in readings(words))
        if where[: len(known)] == known and not is_whole:
            name = ".".join(known)
            raise UsageError(
                f"{name} is a list of tables: write [[{name}]] and its keys into a file of conf.d"
            )


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def without_key(path: Path | None, key: str) -> Edited:
    """Return the file without a key or a section. Raise NotFound if it does not set it, and
    ConfigError with the faults that this would make."""
    where = key_path(key)
    own = _own(path)
    if not _remove(own, where):
        raise NotFound(f"{place_of(path)} does not set {key}: {_where_set(path, where)}")
    return _tried(path, own)


def readings(words: Sequence[str]) -> Iterator[Any]:
    """Yield what words can mean as a value, the most literal one first."""
    values = [_toml(word) for word in words]
    if len(words) == 1:
        yield from values
        yield words[0]
    yield values
    yield list(words)


def _toml(word: str) -> Any:  # noqa: ANN401 - any TOML value
    """Return the value of a word in TOML; the word itself where it is not one value."""
    try:
        table = tomllib.loads(f"x = {word}")
    except (ValueError, RecursionError):
        return word
    value = table.get("x")
    return value if len(table) == 1 and isinstance(value, _VALUES) else word


def _own(path: Path | None) -> Table:
    """Return the tables of the file as it is; empty where it is missing."""
    place = place_of(path)
    return files.read_file(place) if place.exists() else {}


def _with(own: Table, where: KeyPath, value: Any) -> Table:  # noqa: ANN401 - any TOML value
    table = copy.deepcopy(own)
    place = table
    for part in where[:-1]:
        if not isinstance(place.get(part), dict):
            place[part] = {}
        place = place[part]
    place[where[-1]] = value
    return table


def _remove(table: Table, where: KeyPath) -> bool:
    """Remove a key, and the sections that are empty then; return whether there was one."""
    first, *rest = where
    if first not in table:
        return False
    if not rest:
        del table[first]
        return True
    below = table[first]
    if not isinstance(below, dict) or not _remove(below, tuple(rest)):
        return False
    if not below:
        del table[first]
    return True


def _tried(path: Path | None, own: Table) -> Edited:
    """Check the configuration with the changed file. Raise ConfigError with its new faults."""
    text = HEAD + to_text(own)
    place = place_of(path)
    main = path or config.DEFAULT_PATH
    trial = place, files.to_table(text.encode(), str(place))
    try:
        loaded = validated(files.read(main, optional=path is None, trial=trial))
    except ConfigError as error:
        old = _present_faults(path)
        new = [pair for pair in zip(error.faults, error.files, strict=True) if pair not in old]
        if new:
            raise ConfigError(error.where, [f for f, _ in new], [f for _, f in new]) from None
        return Edited(text, None, error)
    return Edited(text, loaded, None)


def _present_faults(path: Path | None) -> list[tuple[str, str]]:
    """Return the faults of the files as they are, each with its file."""
    try:
        validated(files.read(path or config.DEFAULT_PATH, optional=path is None))
    except ConfigError as error:
        return list(zip(error.faults, error.files, strict=True))
    return []


def _require_effect(path: Path | None, where: KeyPath, edited: Edited) -> None:
    """Raise ConfigError where a file that is read later sets the key as well."""
    if edited.loaded is None:
        return
    sources = edited.loaded.sources
    later = sources.files[sources.files.index(str(place_of(path))) + 1 :]
    found = [f for key, f in sources.origins.items() if f in later and _touch(key, where)]
    if found:
        raise ConfigError(found[0], [f"{'.'.join(where)} is set here, after {FILE}: edit it here"])


def _touch(key: KeyPath, other: KeyPath) -> bool:
    """Return whether one key is the other one, or a section of it."""
    common = min(len(key), len(other))
    return key[:common] == other[:common]


def _where_set(path: Path | None, where: KeyPath) -> str:
    """Describe the place of a key's value that this file does not set."""
    try:
        origin = files.read(path or config.DEFAULT_PATH, optional=path is None).origin(where)
    except ConfigError:
        origin = None
    return f"{origin} does, edit it there" if origin else "its default applies"
