"""The text of a fault in a configuration, in the operator's words instead of the validator's."""

import difflib
from typing import Any, Final, get_args

from sentryfw.config.model import Config

_KINDS: Final = {
    "tuple_type": 'write a list, like ["a", "b"]',
    "string_type": 'write text in quotes, like "text"',
    "path_type": 'write a path in quotes, like "/a/b"',
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "int_parsing_size": "the number is too large",
    "finite_number": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty",
    "too_long": "must not have more than {max_length} entries",
    "missing": "is missing",
}
"""The text for each type of pydantic's errors that our fields can have."""
_TABLES: Final = {"model_type", "model_attributes_type", "dict_type"}


def text_of(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, read by key
    """Return an error as "key: what is wrong"."""
    path = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(path)
    kind = error["type"]
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(path[-1], _keys_beside(path), n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f", did you mean {nearest[0]!r}?" if nearest else "")
    if kind in _TABLES:
        message = "write a table, [{}]".format(".".join(p for p in path if not p.isdigit()))
    elif kind == "tuple_type" and isinstance(error["input"], dict):
        message = f"write it in double brackets, [[{key}]]: there can be several"
    elif kind in _KINDS:
        message = _KINDS[kind].format(**error.get("ctx", {}))
    else:
        message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[:1].lower()}{message[1:]}{_shown(error['input'], message)}"


def _shown(given: object, message: str) -> str:
    """Return the value that was given, if it is short and the message does not show it."""
    if isinstance(given, dict | list) or repr(given)[:32] in message:
        return ""
    words = {True: "true", False: "false"}
    text = words[given] if isinstance(given, bool) else repr(given)
    return f" (got {text[:80]})"


def _keys_beside(path: list[str]) -> list[str]:
    model: Any = Config
    for part in path[:-1]:
        # A number is an index into a list; its items are the tuple's first argument.
        model = get_args(model)[0] if part.isdigit() else model.model_fields[part].annotation
    return list(model.model_fields)
