"""The names of pydantic's that sections are written with; in a process that holds a configuration
and checks none, their stand-ins (config/plain)."""

from typing import TYPE_CHECKING

from sentryfw.config import plain

if TYPE_CHECKING or not plain.is_used:
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        PlainSerializer,
        ValidationInfo,
        field_validator,
        model_validator,
    )
else:
    from sentryfw.config.plain.stand_ins import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        PlainSerializer,
        ValidationInfo,
        field_validator,
        model_validator,
    )

__all__ = [
    "AfterValidator",
    "BaseModel",
    "BeforeValidator",
    "ConfigDict",
    "Field",
    "PlainSerializer",
    "ValidationInfo",
    "field_validator",
    "model_validator",
]
