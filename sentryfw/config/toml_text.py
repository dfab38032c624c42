"""Write tables as TOML text that tomllib reads back: a line for each key, a line for each item."""

import json
import re
from typing import Any, Final

from sentryfw.config.files import KeyPath, Table, flatten

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_DELETE: Final = "\x7f"
"""The only control character that JSON does not escape and TOML does not allow."""


def to_text(table: Table) -> str:
    """Return the tables of a configuration as TOML text."""
    return "".join(f"{_path(path)} = {_value(value)}\n" for path, value in flatten(table))


def _path(path: KeyPath) -> str:
    return ".".join(part if _BARE.fullmatch(part) else _string(part) for part in path)


def _value(value: Any) -> str:  # noqa: ANN401 - any TOML value
    if isinstance(value, dict):
        pairs = (f"{_path((key,))} = {_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {_value(item)},\n" for item in value) + "]" if value else "[]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)  # numbers and dates, which Python writes as TOML does


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace(_DELETE, "\\u007f")
