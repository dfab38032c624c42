"""The paths that the files of a faulty configuration name, as far as a search finds them."""

import contextlib
import re
from pathlib import Path
from typing import Final

from sentryfw.config.files import MAX_CONFIG_BYTES, drop_ins
from sentryfw.config.model import Paths
from sentryfw.errors import ConfigError

_PLACE: Final = re.compile(
    r'^\s*(?:paths\s*\.\s*)?(state|runtime|log)\s*=\s*["\'](/[^"\']*)["\']', re.MULTILINE
)


def named_paths(path: Path) -> Paths:
    """Return the paths that a configuration file and conf.d name; the default of each other."""
    named: dict[str, Path] = {}
    for file in _files(path):
        with contextlib.suppress(OSError, ValueError):
            with file.open("rb") as opened:
                text = opened.read(MAX_CONFIG_BYTES).decode(errors="replace")
            named |= {name: Path(place) for name, place in _PLACE.findall(text)}
    try:
        return Paths(**named)
    except ValueError:
        return Paths()


def _files(path: Path) -> list[Path]:
    try:
        return [path, *drop_ins(path)]
    except ConfigError:
        return [path]
