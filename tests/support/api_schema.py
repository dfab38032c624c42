"""JSON Schema (2020-12), the part that our schemas use: made of samples, and checked."""

from typing import Any, Final

Schema = dict[str, Any]

TYPES: Final = {
    dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number",
    type(None): "null",
}  # fmt: skip
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def faults(value: object, schema: Schema, place: str = "") -> list[str]:
    """Return each place where a value breaks its schema."""
    kind = TYPES[type(value)]
    if kind not in schema["type"]:
        return [f"{place}: {kind}, not {' or '.join(schema['type'])}"]
    if isinstance(value, list):
        parts = [(f"{place}[]", item, schema.get("items")) for item in value]
    elif isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", False)
        missing = [
            f"{place}.{key}: missing" for key in schema.get("required", ()) if key not in value
        ]
        if missing:
            return missing
        parts = [(f"{place}.{key}", item, known.get(key, others)) for key, item in value.items()]
    else:
        return []
    found = []
    for where, item, wanted in parts:
        found += faults(item, wanted, where) if wanted else [f"{where}: unknown"]
    return found


def schema_of(value: object, maps: frozenset[str], place: str = "") -> Schema:
    """Return the schema of one sample. `maps`: places of objects whose keys are data."""
    made: Schema = {"type": [TYPES[type(value)]]}
    if isinstance(value, list):
        items = [schema_of(item, maps, f"{place}[]") for item in value]
        if items:
            made["items"] = merged_all(items)
    elif isinstance(value, dict) and place in maps:
        items = [schema_of(item, maps, f"{place}.*") for item in value.values()]
        if items:
            made["additionalProperties"] = merged_all(items)
    elif isinstance(value, dict):
        made["properties"] = {
            key: schema_of(item, maps, f"{place}.{key}") for key, item in value.items()
        }
        made["required"] = list(value)
    return made


def merged_all(schemas: list[Schema]) -> Schema:
    """Return a schema that all samples of these meet."""
    first, *rest = schemas
    for other in rest:
        first = merged(first, other)
    return first


def merged(one: Schema, other: Schema) -> Schema:
    """Return a schema that the samples of both meet; a key is required if both require it."""
    made: Schema = {"type": sorted({*one["type"], *other["type"]})}
    for name in ("items", "additionalProperties"):
        found = [schema[name] for schema in (one, other) if schema.get(name)]
        if found:
            made[name] = merged_all(found)
    objects = [schema for schema in (one, other) if "properties" in schema]
    if objects:
        keys = dict.fromkeys(key for schema in objects for key in schema["properties"])
        made["properties"] = {
            key: merged_all([s["properties"][key] for s in objects if key in s["properties"]])
            for key in keys
        }
        made["required"] = [key for key in keys if all(key in s["required"] for s in objects)]
    return made
