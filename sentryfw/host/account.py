"""The system user that the daemon runs as, and how root acts as that user.

Root never reads or writes in the daemon's directories with root's own rights: a link or a file
that the daemon's user put there must not give it access that it did not have.

See docs/decisions.md: act-as-owner.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

USER: str = "sentryfw"
LINK_USER: Final = "sentryfw-link"
"""The user of the program that connects the daemon with the hub of its fleet."""


class Account(NamedTuple):
    """The ids of a system user."""

    uid: int
    gid: int


def find(name: str | None = None) -> Account | None:
    """Return the daemon's user, or another one; None where `sentryfw install` has not made it."""
    try:
        entry = pwd.getpwnam(name or USER)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def owner_of(directory: Path) -> Account | None:
    """Return the daemon's user if the directory, a link on the way to it, or a directory above it
    belongs to that user, else None.

    The owner of a directory on the way can put a link there that leads anywhere.
    """
    account = find()
    if account is None:
        return None
    for place in (directory, *directory.parents):
        for status in (os.lstat, os.stat):
            with contextlib.suppress(OSError):
                if status(place).st_uid == account.uid:
                    return account
    return None


@contextlib.contextmanager
def acting_as_owner(directory: Path) -> Iterator[None]:
    """Act as the daemon's user in the context, if root works in or below a directory of that
    user."""
    account = owner_of(directory) if os.geteuid() == 0 else None
    if account is None or account.uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
