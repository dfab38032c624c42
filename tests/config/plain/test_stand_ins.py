"""Sections of values alone: defaults, comparison, and their values as JSON."""

import pytest

from sentryfw.config.plain.stand_ins import BaseModel, Field


class Inner(BaseModel):
    size: int = 3


class Outer(Inner):
    inner: Inner = Field(default_factory=Inner)  # type: ignore[assignment]
    name: str = "a"


def test_a_section_has_its_defaults_and_those_of_the_class_before_it() -> None:
    assert (Outer().size, Outer().inner, Outer().name) == (3, Inner(), "a")
    assert Outer(name="b", inner=Inner(size=5)).inner.size == 5
    assert Outer(name="b") != Outer()
    assert Outer().inner is not Outer().inner


def test_a_section_does_not_change() -> None:
    with pytest.raises(AttributeError, match="size is of a section"):
        Inner().size = 4


def test_the_values_as_json_are_those_that_were_kept() -> None:
    outer = Outer().keep_json({"size": 3, "inner": {"size": "3"}, "name": "a"})
    assert outer.inner.model_dump(mode="json") == {"size": "3"}
    with pytest.raises(ValueError, match="as JSON only"):
        outer.model_dump(mode="python")
