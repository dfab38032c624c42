"""Messages on a UNIX socket: JSON objects, one a line."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

from sentryfw.text import dumps


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as a line of printable ASCII."""
    return dumps(message).encode() + b"\n"


def read(stream: BinaryIO, limit: int) -> dict[str, Any] | None:
    """Read one message of at most `limit` bytes; return None at the end of the stream.

    Raise ValueError if the line is not a JSON object.
    """
    line = stream.readline(limit)
    if not line:
        return None
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message
