"""Errors of the hub, of TLS and of the network, as one sentence with what to do."""

from typing import Final

from sentryfw.config.fleet import HubAddress
from sentryfw.fleet.link.stream_items import HubFault
from sentryfw.text import plain

MAX_CHARACTERS: Final = 200
MAX_CAUSES: Final = 8
AUTHORITY: Final = "the hub refuses our certificate: it is not of the hub's authority; join again"
MEMBER: Final = "the hub does not know this member, or its password is another one: join again"
RIGHTS: Final = (
    "the hub does not let this member do that: its ACL is not that of `sentryfw fleet init`"
)
FULL: Final = "the memory of the hub is full: raise maxmemory there"
LOADING: Final = "the hub reads its entries from disk"
PAIR: Final = "certificate and key of [fleet.hub] do not belong together"
ENDED: Final = (
    "the hub ended the connection: it stops, or refuses our certificate (expired, of another"
    " authority): if that lasts, join again"
)
SILENT: Final = "no answer"
MEANINGS: Final[dict[str, str]] = {
    "alert certificate expired": (
        "the hub refuses our certificate, which has expired: make a new one (`sentryfw fleet init`"
        " on the hub), and join again"
    ),
    "alert unknown ca": AUTHORITY,
    "alert decrypt error": AUTHORITY,
    "alert bad certificate": AUTHORITY,
    "alert certificate required": "the hub wants a certificate, and [fleet.hub] names none",
    "certificate has expired": (
        "the hub's certificate has expired: `sentryfw fleet init` on the hub makes a new one"
    ),
    "certificate is not yet valid": "the hub's certificate is not valid yet: is the clock right?",
    "KEY_VALUES_MISMATCH": PAIR,
    "key values mismatch": PAIR,
    "mismatch": "the hub's certificate is that of another host",
    "certificate verify failed": (
        "the hub's certificate is not of the authority in [fleet.hub] ca: is this another server?"
    ),
    "WRONGPASS": MEMBER,
    "invalid username-password": MEMBER,
    "NOAUTH": "the hub wants a user and a password: set [fleet.hub] password_file",
    "NOPERM": RIGHTS,
    "no permissions": RIGHTS,
    "No permissions": RIGHTS,
    "command not allowed when used memory": FULL,
    "OOM": FULL,
    "MISCONF": "the hub cannot write to its disk: is that full?",
    "read only replica": (
        "the hub is a replica, which takes no entries: name the server or its Sentinels"
    ),
    "Error loading": LOADING,
    "loading the dataset": LOADING,
    "No such file or directory": "a file or socket that [fleet.hub] names is missing",
    "Permission denied": "the link may not read a file that [fleet.hub] names",
    "EOF occurred in violation of protocol": ENDED,
    "Connection reset": ENDED,
    "Connection closed by server": ENDED,
    "Connection refused": "nothing listens there: does the hub run?",
    "timed out": SILENT,
    "Timeout": SILENT,
}
"""Parts of a message, and what they mean; the first that is found counts."""


def hub_fault(error: object, address: HubAddress | None = None) -> HubFault:
    """Return the fault for an exception, or for an answer that is none of the expected."""
    place = "" if address is None else f"{address.socket or f'{address.host}:{address.port}'}: "
    if not isinstance(error, Exception):
        return HubFault(f"{place}the hub gave an answer that was not asked for")
    text = " ".join(_chain(error))
    for part, meaning in MEANINGS.items():
        if part in text:
            return HubFault(f"{place}{meaning}")
    return HubFault(f"{place}{plain(str(error) or type(error).__name__)[:MAX_CHARACTERS]}")


def _chain(error: BaseException) -> list[str]:
    """Return the texts of an exception and of those that led to it."""
    texts: list[str] = []
    now: BaseException | None = error
    while now is not None and len(texts) < MAX_CAUSES:
        texts.append(str(now))
        now = now.__cause__ or now.__context__
    return texts
