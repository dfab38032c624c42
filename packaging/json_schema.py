"""Make the JSON Schema of the configuration, by which editors complete and check it.

A value that a parser takes apart is described by that parser's schema below; descriptions are the
docstrings of the model's classes and fields. `python packaging/json_schema.py` writes the file.
"""

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from sentryfw.config import forward, respond, types
from sentryfw.config.model import Config

PLACE: Final = Path(__file__).resolve().parent.parent / "sentryfw" / "data" / "sentryfw.schema.json"
DURATION: Final = r"^\s*(?:[0-9]{1,12}|(?:[0-9]{1,12}[smhdw]){1,8})\s*$"
PORTS: Final = r"^\s*[0-9]{1,5}(?:\s*-\s*[0-9]{1,5})?\s*$"

_ADDRESS: Final = {"type": "string", "pattern": r"^\s*[0-9A-Fa-f:.]+(?:/[0-9.]{1,15})?\s*$"}
_READ: Final[dict[Any, Callable[[JsonSchemaValue], JsonSchemaValue]]] = {
    types.parse_duration: lambda plain: {
        "anyOf": [plain | {"exclusiveMinimum": 0}, {"type": "string", "pattern": DURATION}]
    },
    types._parse_ports: lambda _plain: {  # noqa: SLF001 - the parser is the key
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": types.MAX_PORT},
            {"type": "string", "pattern": PORTS},
        ]
    },
    types._network: lambda _plain: _ADDRESS,  # noqa: SLF001
    types._network6: lambda _plain: _ADDRESS,  # noqa: SLF001
    types._no_bool: lambda plain: plain,  # noqa: SLF001
    respond.parse_argv: lambda plain: {"anyOf": [plain, {"type": "string"}]},
    forward._as_list: lambda plain: {"anyOf": [plain, plain["items"]]},  # noqa: SLF001
    forward._protocol: lambda plain: {"anyOf": [plain, {"enum": list(forward.NUMBERS)}]},  # noqa: SLF001
}
"""The schema of what each parser reads, by the schema of its result."""
_LIMITS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "minLength": "minItems",
}
"""Limits that pydantic leaves beside a parser under its own names; only lists have a length."""


class _Generator(GenerateJsonSchema):
    """A generator that knows the parsers; one that it does not know is an error."""

    def function_before_schema(
        self, schema: core_schema.BeforeValidatorFunctionSchema
    ) -> JsonSchemaValue:
        return _READ[schema["function"]["function"]](self.generate_inner(schema["schema"]))

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe a field without its default: `sentryfw config show` has them all."""
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe an optional value: TOML has no null."""
        return self.generate_inner(schema["schema"])


def text() -> str:
    """Return the schema as JSON text."""
    found = Config.model_json_schema(schema_generator=_Generator, ref_template="#/$defs/{model}")
    models = {model.__name__: model for model in _models(Config)}
    for name, table in ({Config.__name__: found} | found["$defs"]).items():
        _describe(models[name], table)
    _name_limits(found)
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _name_limits(node: Any) -> None:  # noqa: ANN401 - any part of a schema
    """Give limits their names in JSON Schema, in the alternative that they are for."""
    if isinstance(node, list):
        for item in node:
            _name_limits(item)
    elif isinstance(node, dict):
        for name in _LIMITS.keys() & node.keys():
            wanted = ("array",) if name == "minLength" else ("integer", "number")
            places = [one for one in node.get("anyOf", [node]) if one.get("type") in wanted]
            value = node.pop(name)
            for place in places:
                place[_LIMITS[name]] = value
        for item in node.values():
            _name_limits(item)


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a table's class and those of the tables in it."""
    found = [model]
    for field in model.model_fields.values():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += _models(kind)
    return found


def _describe(model: type[BaseModel], table: JsonSchemaValue) -> None:
    """Add the docstrings of a class and its fields to its schema."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    table.pop("title", None)
    if doc := inspect.cleandoc(model.__doc__ or ""):
        table["description"] = _prose(doc)
    for field in table["properties"].values():
        field.pop("title", None)
    for node, behind in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            doc = _string(behind)
            if doc:
                table["properties"][node.target.id]["description"] = _prose(doc)


def _prose(doc: str) -> str:
    """Return a docstring for people who write TOML, which has no None."""
    return " ".join(doc.split()).replace("None:", "unset:")


def _string(node: ast.stmt) -> str:
    """Return the text of a docstring; empty for another statement."""
    value = node.value if isinstance(node, ast.Expr) else None
    return str(value.value) if isinstance(value, ast.Constant) else ""


if __name__ == "__main__":
    PLACE.write_text(text())
