"""Stand-ins for the names of pydantic's that sections use: they hold values and check nothing.

A child checks the files and answers with the values (process.py, child.py).
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final, NoReturn, Self, TypeVar

T = TypeVar("T")


class _Default:
    """A value of a field that is made for each instance."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object] | None) -> None:
        self.make = make


def Field(*, default_factory: Callable[[], object] | None = None, **_: object) -> _Default:  # noqa: N802 - pydantic's name
    """Return the default of a field; its bounds are checked elsewhere."""
    return _Default(default_factory)


def _unused(*_: object, **__: object) -> None:
    """Stand in Annotated[...] for what checks or writes a value."""


AfterValidator = BeforeValidator = PlainSerializer = _unused
ConfigDict: Final = dict
ValidationInfo: Final = object


def field_validator(*_: str, **__: str) -> Callable[[T], T]:
    """Return a decorator that changes nothing: the check is not called."""
    return lambda function: function


model_validator = field_validator


class BaseModel:
    """Values by name, as pydantic's model of the class holds them: frozen, compared by them."""

    model_fields: ClassVar[dict[str, object]] = {}
    """The default of each field."""
    __slots__ = ("__dict__", "_json")
    _json: dict[str, Any]

    def __init_subclass__(cls) -> None:
        fields = {name: cls.__dict__.get(name) for name in cls.__annotations__}
        cls.model_fields = cls.model_fields | fields

    def __init__(self, **given: object) -> None:
        for name, default in self.model_fields.items():
            if name in given:
                self.__dict__[name] = given[name]
            elif isinstance(default, _Default):
                self.__dict__[name] = default.make and default.make()
            else:
                self.__dict__[name] = default

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the values of a pickled model of pydantic's."""
        self.__dict__.update(state["__dict__"])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} is of a section, which does not change")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    @classmethod
    def model_construct(cls) -> Self:
        """Return the section with its defaults."""
        return cls()

    def keep_json(self, values: dict[str, Any]) -> Self:
        """Keep the values as JSON, here and in the tables inside; return the section."""
        object.__setattr__(self, "_json", values)
        for name, value in self.__dict__.items():
            if isinstance(value, BaseModel):
                value.keep_json(values[name])
        return self

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the values as JSON, as the process wrote them that checked them."""
        if mode != "json":
            raise ValueError(f"{mode}: these sections have their values as JSON only")
        return self._json
