"""An invitation: what a firewall needs to join a fleet, as one word that a terminal carries.

It is the owner's word, given over a channel that the owner trusts: the hub has no part in which
keys sign. It has a private key and a password, so it is as secret as they are.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sentryfw.config.fleet import MAX_MEMBERS, FleetMember, parse_hub
from sentryfw.errors import UsageError
from sentryfw.fleet.entry import is_name
from sentryfw.setup.fleet.authority import Credential

MARK: Final = "sentryfw1."
SCHEMA: Final = 1
MAX_CHARACTERS: Final = 200_000
MAX_BYTES: Final = 1 << 20
UNREADABLE: Final = (
    "this is not an invitation, or a part of it is missing: give the whole word that `sentryfw"
    " fleet init` printed"
)


class Access(NamedTuple):
    """How one member reaches the hub."""

    name: str
    url: str
    authority: str
    """The hub's authority, PEM."""
    credential: Credential
    password: str


class Invitation(NamedTuple):
    """The keys of members, and the access of the one that joins, unless it has one already."""

    members: Mapping[str, str]
    access: Access | None

    def encode(self) -> str:
        """Return it as one word."""
        fields: dict[str, Any] = {"v": SCHEMA, "members": dict(self.members)}
        if self.access is not None:
            fields["access"] = self.access._asdict() | {
                "credential": self.access.credential._asdict()
            }
        packed = zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)
        return MARK + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(text: str) -> Invitation:
    """Return the invitation in a word. Raise UsageError for another text."""
    word = "".join(text.split())
    if not word.startswith(MARK) or len(word) > MAX_CHARACTERS:
        raise UsageError(UNREADABLE)
    encoded = word.removeprefix(MARK)
    try:
        packed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
        inflate = zlib.decompressobj()
        plain = inflate.decompress(packed, MAX_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise UsageError(UNREADABLE)
        fields = json.loads(plain)
        if fields["v"] != SCHEMA:
            raise UsageError("this invitation is of another version of SentryFW: update this one")
        return Invitation(_members(fields["members"]), _access(fields.get("access")))
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(UNREADABLE) from None
    except RecursionError:
        raise UsageError(UNREADABLE) from None


def _members(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > MAX_MEMBERS or not all(map(is_name, given)):
        raise ValueError
    return {name: FleetMember(key=key).key for name, key in given.items()}


def _access(given: Mapping[str, Any] | None) -> Access | None:
    if given is None:
        return None
    made = Access(**{**given, "credential": Credential(**given["credential"])})
    texts = (*made.credential, made.name, made.url, made.authority, made.password)
    if not all(isinstance(text, str) and text.isascii() for text in texts):
        raise ValueError
    if not is_name(made.name) or "\n" in made.url + made.password:
        raise ValueError
    parse_hub(made.url)
    return made
