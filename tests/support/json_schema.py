"""Check a value by a JSON Schema (draft 2020-12), of the keywords that our schema has.

A keyword that is not known here is an error: it would check nothing.
"""

import re
from typing import Any, Final

_TYPES: Final = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": int | float,
}  # fmt: skip
_REMARKS: Final = {"$schema", "$defs", "description", "format"}


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> list[str]:
    """The faults of a value; empty if the schema accepts it."""
    root = schema if root is None else root
    found: list[str] = []
    for keyword in schema.keys() - _REMARKS:
        found += _CHECKS[keyword](schema, value, root)
    return found


def _ref(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    return faults(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)


def _type(schema: dict[str, Any], value: Any, _root: dict[str, Any]) -> list[str]:
    is_type = isinstance(value, _TYPES[schema["type"]])
    if isinstance(value, bool) and schema["type"] != "boolean":
        is_type = False
    return [] if is_type else [f"{value!r} is not of type {schema['type']}"]


def _any_of(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    if any(not faults(one, value, root) for one in schema["anyOf"]):
        return []
    return [f"{value!r} is none of the alternatives"]


def _properties(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    known = schema["properties"]
    given = value if isinstance(value, dict) else {}
    return [
        f"{key}: {fault}"
        for key, item in given.items() if key in known
        for fault in faults(known[key], item, root)
    ]  # fmt: skip


def _additional(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    given = value if isinstance(value, dict) else {}
    others = {k: v for k, v in given.items() if k not in schema.get("properties", {})}
    allowed = schema["additionalProperties"]
    if allowed is False:
        return [f"{key}: unknown" for key in others]
    return [f"{key}: {f}" for key, item in others.items() for f in faults(allowed, item, root)]


def _names(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    return [fault for key in value for fault in faults(schema["propertyNames"], key, root)]


def _items(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> list[str]:
    given = value if isinstance(value, list) else []
    return [f"{at}: {f}" for at, i in enumerate(given) for f in faults(schema["items"], i, root)]


def _limit(keyword: str, holds: Any, kinds: tuple[type, ...]) -> Any:
    def check(schema: dict[str, Any], value: Any, _root: dict[str, Any]) -> list[str]:
        if not isinstance(value, kinds) or holds(value, schema[keyword]):
            return []
        return [f"{value!r}: {keyword} is {schema[keyword]!r}"]

    return check


def _required(schema: dict[str, Any], value: Any, _root: dict[str, Any]) -> list[str]:
    return [f"{key}: missing" for key in schema["required"] if key not in value]


def _enum(schema: dict[str, Any], value: Any, _root: dict[str, Any]) -> list[str]:
    return [] if value in schema["enum"] else [f"{value!r}: not in enum"]


_NUMBER: Final = (int, float)
_CHECKS: Final = {
    "$ref": _ref, "type": _type, "anyOf": _any_of, "properties": _properties,
    "additionalProperties": _additional, "propertyNames": _names, "items": _items,
    "required": _required, "enum": _enum,
    "minimum": _limit("minimum", lambda v, limit: v >= limit, _NUMBER),
    "exclusiveMinimum": _limit("exclusiveMinimum", lambda v, limit: v > limit, _NUMBER),
    "maximum": _limit("maximum", lambda v, limit: v <= limit, _NUMBER),
    "minItems": _limit("minItems", lambda v, limit: len(v) >= limit, (list,)),
    "maxItems": _limit("maxItems", lambda v, limit: len(v) <= limit, (list,)),
    "pattern": _limit("pattern", lambda v, pattern: re.search(pattern, v) is not None, (str,)),
}  # fmt: skip
