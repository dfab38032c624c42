"""The events about the daemon itself that are urgent, as text."""

from collections.abc import Mapping
from typing import Final

URGENT: Final = {
    "alarm": "another program keeps changing the table",
    "heal-failed": "the table cannot be repaired",
    "block-failed": "a block could not be made",
    "overload": "packets are lost",
    "conntrack-full": "the kernel tracks no more connections",
    "confine-paused": "partners that scan are not confined",
    "records-lost": "events or evidence are not written, blocking continues",
}
"""Meaning of each kind of event."""


def urgent_text(kind: str, fields: Mapping[str, object]) -> str:
    """Return one line about an event; empty if it is not urgent."""
    meaning = URGENT.get(kind)
    if meaning is None:
        return ""
    details = ", ".join(f"{key} {value}" for key, value in fields.items())
    return f"{meaning} ({details})" if details else meaning
