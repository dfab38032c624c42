"""asyncio without TLS: 4 MiB less in a daemon whose loop only serves a UNIX socket.

asyncio imports ssl where it can and does without where it cannot (asyncio/base_events.py).
Who needs ssl later imports it as usual.
"""

import sys

_HIDDEN = "ssl" not in sys.modules
if _HIDDEN:
    sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio  # noqa: E402

if _HIDDEN:
    del sys.modules["ssl"]

__all__ = ["asyncio"]
