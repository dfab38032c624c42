"""A checked configuration as bytes, for processes that hold one without pydantic.

Only who wrote the bytes may have made them: they are pickled. They count for the tables that they
were made of, by the version and the Python that made them, and no others.
"""

import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentryfw import __version__

if TYPE_CHECKING:
    from sentryfw.config.files import Table
    from sentryfw.config.model import Config

SECTIONS: Final = Path(__file__).resolve().parent.parent
NOT_AN_ANSWER: Final = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError,
    ValueError,
)  # fmt: skip
"""Errors of pickle.loads() for bytes that are cut off or of another program."""


class CheckedValues(NamedTuple):
    """A checked configuration, which is not unpickled yet: that imports its sections."""

    pickled: bytes

    def config(self) -> "Config":
        """Return the sections, which keep their values as JSON."""
        found, values = pickle.loads(self.pickled)  # noqa: S301 - see the module
        checked: Config = found.keep_json(values)
        return checked


def packed(table: "Table", config: "Config") -> bytes:
    """Return the bytes for a configuration that pydantic has made of these tables."""
    answer = pickle.dumps((config, config.model_dump(mode="json")))
    return pickle.dumps((_maker(), table, answer))


def unpacked(data: bytes, table: "Table") -> CheckedValues | None:
    """Return the configuration of exactly these tables; None if the bytes are of another one."""
    try:
        maker, checked, answer = pickle.loads(data)  # noqa: S301 - see the module
    except NOT_AN_ANSWER:
        return None
    return CheckedValues(answer) if maker == _maker() and _same(checked, table) else None


def _same(one: object, other: object) -> bool:
    """Return whether two values are equal, and of one type: in TOML, 1 is not true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _maker() -> tuple[Any, ...]:
    """Return what the meaning of the bytes depends on: the version, Python, the sections' files."""
    files = sorted((path.name, path.stat().st_mtime_ns) for path in SECTIONS.glob("*.py"))
    return __version__, sys.hexversion, files
