"""Signed statements out of what a transport brings."""

from collections import Counter

from sentryfw.config.model import Config
from sentryfw.fleet.entry import Statement, UnreadableEntry, parse
from sentryfw.fleet.signature import verify


class Statements:
    """Reads statements, and counts those that no member can have sent."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.unreadable: Counter[str] = Counter()
        """Items that no member can have sent, by the reason."""

    def read(self, item: object) -> Statement | str:
        """Return the statement of a member, with its signature checked, or why it is none."""
        found = self._read(item)
        if isinstance(found, str):
            self.unreadable[found] += 1
        return found

    def _read(self, item: object) -> Statement | str:
        if not isinstance(item, dict):
            return "not-an-object"
        text, signature = item.get("entry"), item.get("signature")
        if not isinstance(text, str) or not isinstance(signature, str) or not text.isascii():
            return "not-an-object"
        try:
            statement = parse(text.encode())
            signed = bytes.fromhex(signature)
        except UnreadableEntry as error:
            return str(error)
        except ValueError:
            return "bad-signature"
        fleet = self._config.fleet
        member = fleet.members.get(statement.member)
        if member is None:
            return "echo" if statement.member == fleet.name else "unknown-member"
        if not verify(bytes.fromhex(member.key), text.encode(), signed):
            return "bad-signature"
        return statement
