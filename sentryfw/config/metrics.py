"""The section [metrics]: figures for Prometheus, off until a place for them is configured."""

import re
from pathlib import Path
from typing import Annotated, Final

from sentryfw.config.form import AfterValidator, Field
from sentryfw.config.types import Directory, Duration, Section, parse_address

_LISTEN: Final = re.compile(r"\[?([0-9a-fA-F:.]{2,45})\]?:(\d{1,5})", re.ASCII)


def _listen(value: str) -> str:
    if value.startswith("/"):
        if len(value.encode()) > 107 or "\0" in value:
            raise ValueError("the path of a UNIX socket has at most 107 bytes")
        return value
    match = _LISTEN.fullmatch(value)
    try:
        fits = match is not None and parse_address(match[1]).is_loopback
    except ValueError:
        fits = False
    if match is None or not fits or not 0 < int(match[2]) < 65536:
        raise ValueError(
            f'{value!r} is neither a loopback address with a port ("127.0.0.1:9577", "[::1]:9577")'
            ' nor the path of a UNIX socket ("/run/sentryfw/metrics.sock")'
        )
    return value


def _textfile(value: Path) -> Path:
    if value.suffix != ".prom":
        raise ValueError(f"{value}: node_exporter reads files that end in .prom")
    return value


Listen = Annotated[str, AfterValidator(_listen)]


class Metrics(Section):
    textfile: Annotated[Directory, AfterValidator(_textfile)] | None = None
    """File for node_exporter's textfile collector; None: no file is written."""
    listen: Listen | None = None
    """Loopback address and port, or path of a UNIX socket; None: no socket is opened."""
    every: Annotated[Duration, Field(ge=1, le=3600)] = 15.0
    """Seconds between two writes of the text file."""

    @property
    def wanted(self) -> bool:
        return self.textfile is not None or self.listen is not None

    @property
    def address(self) -> tuple[str, int] | Path | None:
        """Return the address to listen on: (host, port), or a UNIX socket."""
        if self.listen is None or self.listen.startswith("/"):
            return Path(self.listen) if self.listen else None
        host, _, port = self.listen.rpartition(":")
        return str(parse_address(host.strip("[]"))), int(port)
