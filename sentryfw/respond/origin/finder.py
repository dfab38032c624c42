"""The origins of sources, found by another process; mails and messages go without if it fails."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from sentryfw.config.origin import Geo, Labels
from sentryfw.errors import SentryError
from sentryfw.origin.ask import ask
from sentryfw.origin.model import Origin

Find = Callable[[list[str]], Mapping[str, Origin]]

log: Final = logging.getLogger("sentryfwd")


class OriginFinder:
    """Finds origins, and logs each fault once."""

    def __init__(self, geo: Geo, labels: Labels) -> None:
        self._geo = geo
        self._labels = labels
        self._said: set[str] = set()

    def __call__(self, addresses: list[str]) -> Mapping[str, Origin]:
        """Return the origins of sources, by address."""
        if not addresses:
            return {}
        try:
            found, faults = ask(self._geo, self._labels, addresses)
        except SentryError as error:
            found, faults = {}, [str(error)]
        for fault in faults:
            if fault not in self._said:
                self._said.add(fault)
                log.warning("%s", fault)
        return found
