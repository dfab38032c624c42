"""Signed statements out of what a transport brings."""

from collections import Counter
from collections.abc import Sequence

from sentryfw.config.model import Config
from sentryfw.fleet.entry import Statement, UnreadableEntry, parse
from sentryfw.fleet.seal import Seal, parse_seal
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

    def read_part(self, texts: Sequence[object], sealed: object) -> list[Statement | str] | None:
        """Return the statements of a part, or why one is none; None where the seal is not that of
        these texts: each needs its own signature then."""
        seal = self._seal(sealed)
        strings = [text for text in texts if isinstance(text, str) and text.isascii()]
        if seal is None or len(strings) != len(texts) or not seal.covers(strings):
            self.unreadable["bad-seal"] += 1
            return None
        found = [_of_part(text, seal) for text in strings]
        self.unreadable.update(word for word in found if isinstance(word, str))
        return found

    def _seal(self, sealed: object) -> Seal | None:
        """Return the seal of a member, with its signature checked; None if it is none."""
        if not isinstance(sealed, dict):
            return None
        text, signature = sealed.get("entry"), sealed.get("signature")
        if not isinstance(text, str) or not isinstance(signature, str) or not text.isascii():
            return None
        try:
            seal, signed = parse_seal(text.encode()), bytes.fromhex(signature)
        except ValueError:
            return None
        member = self._config.fleet.members.get(seal.member)
        is_signed = member is not None and verify(bytes.fromhex(member.key), text.encode(), signed)
        return seal if is_signed else None

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


def _of_part(text: str, seal: Seal) -> Statement | str:
    """Return a statement that a seal covers, or why it is none."""
    try:
        statement = parse(text.encode())
    except UnreadableEntry as error:
        return str(error)
    is_theirs = statement.member == seal.member and seal.first <= statement.seq <= seal.last
    return statement if is_theirs else "bad-seal"
