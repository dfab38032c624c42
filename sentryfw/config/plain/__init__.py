"""Sections without pydantic, for processes that hold a configuration for long: values by name.

pydantic takes 10 MiB and is needed once. The entry points of such processes set `is_used` before
they import a section. A section is then a class of values alone, with its own methods.

See docs/decisions.md: plain-sections.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentryfw.config.plain.checked_values import CheckedValues

is_used: bool = False
"""Whether config/form.py takes the names of stand_ins.py instead of pydantic's."""
known: "CheckedValues | None" = None
"""The configuration of this process, checked before: of a command that needs no more of it."""
