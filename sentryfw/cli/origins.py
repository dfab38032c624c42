"""The origins of sources in the answers of commands: looked up here, never by the daemon."""

from collections.abc import Callable, Iterable
from typing import Any

from sentryfw.config.model import Config
from sentryfw.origin.model import NOWHERE
from sentryfw.origin.origins import Origins

Row = dict[str, Any]


def with_origins(
    config: Config, items: Iterable[Row], warn: Callable[[str], None], key: str = "address"
) -> list[Row]:
    """Return the items with their origins; each file with a fault gives one warning."""
    origins = Origins.of_config(config)
    if not origins.is_wanted:  # a list of 65,536 blocks: one object for all of them
        nowhere = NOWHERE.item()
        return [{**item, "origin": nowhere} for item in items]
    found = [{**item, "origin": origins.of(str(item[key])).item()} for item in items]
    for fault in origins.faults:
        warn(fault)
    return found
