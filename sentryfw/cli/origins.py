"""The origins of sources in the answers of commands: looked up here, never by the daemon."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sentryfw.config.model import Config
from sentryfw.origin.model import NOWHERE
from sentryfw.origin.origins import Origins

Row = dict[str, Any]


def with_origins(
    config: Config, items: Iterable[Row], warn: Callable[[str], None], key: str = "address"
) -> Iterator[Row]:
    """Add the origins to the items, and yield them; each file with a fault gives one warning."""
    origins = Origins.of_config(config)
    nowhere = NOWHERE.item()  # one object for all of them: a list may have a million
    for item in items:
        item["origin"] = origins.of(str(item[key])).item() if origins.is_wanted else nowhere
        yield item
    for fault in origins.faults:
        warn(fault)
