"""Answers of the daemon, before a command uses them.

The daemon runs as another user than root's command line and may have been taken over: its answers
are the text of a stranger. The strings lose what could move a cursor, numbers and depth are
bounded, and an answer has to have the shape that the command expects.

See docs/threat-model.md.
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints, is_typeddict

from sentryfw.errors import SentryError
from sentryfw.text import plain

MAX_DEPTH: Final = 12
MAX_NUMBER: Final = float(1 << 53)
MAX_STREAM: Final = 4_000_000
"""Answers of one stream; a full pair of block sets has half of that."""


def harmless(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
    """Return a value of JSON with printable strings. Raise SentryError if it is nested too deeply,
    or has a number that nothing of ours reaches."""
    if isinstance(value, str):
        return plain(value, keep="\n")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not abs(value) <= MAX_NUMBER:  # NaN, too
            raise SentryError("a number in it is out of range")
        return value
    if depth >= MAX_DEPTH:
        raise SentryError("it is nested too deeply")
    if isinstance(value, list):
        return [harmless(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {plain(str(key)): harmless(item, depth + 1) for key, item in value.items()}
    raise SentryError(f"a {type(value).__name__} is in it")


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type hint
    """Return whether a value of JSON fits a type hint: that of a TypedDict, a list, a mapping, a
    literal, a union, or of a plain type."""
    if hint is Any or hint is object:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if is_typeddict(hint):
        return isinstance(value, dict) and _fits_keys(value, hint)
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(
            fits(item, get_args(hint)[1]) for item in value.values()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _fits_keys(value: dict[str, Any], hint: Any) -> bool:  # noqa: ANN401 - a type hint
    hints = _hints(hint)
    return hint.__required_keys__ <= value.keys() and all(
        fits(item, hints[key]) for key, item in value.items() if key in hints
    )


def known(value: dict[str, Any], hint: Any) -> dict[str, Any]:  # noqa: ANN401 - a type hint
    """Return a dict that fits a TypedDict without the keys that the TypedDict does not have."""
    return {key: value[key] for key in _hints(hint) if key in value}


@functools.lru_cache(maxsize=64)
def _hints(hint: Any) -> dict[str, Any]:  # noqa: ANN401 - a type hint
    return get_type_hints(hint)
