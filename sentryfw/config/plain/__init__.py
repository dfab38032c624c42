"""Sections without pydantic, for processes that hold a configuration for long: values by name.

pydantic takes 10 MiB and is needed once. The entry points of such processes set `is_used` before
they import a section. A section is then a class of values alone, with its own methods.

See docs/decisions.md: plain-sections.
"""

is_used: bool = False
"""Whether config/form.py takes the names of stand_ins.py instead of pydantic's."""
