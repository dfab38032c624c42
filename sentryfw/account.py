"""The system user that the daemon runs as, and acting as it.

Root never reads or writes in the daemon's directories with root's own rights: whatever the
daemon's user may have put there, a link or a file, gives it nothing that it did not have.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

USER: str = "sentryfw"


class Account(NamedTuple):
    uid: int
    gid: int


def find() -> Account | None:
    """The daemon's user; None where install has not made it."""
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def owner_of(directory: Path) -> Account | None:
    """The daemon's user, if the directory is there and belongs to it."""
    account = find()
    try:
        uid = directory.stat().st_uid
    except OSError:
        return None
    return account if account is not None and account.uid == uid else None


@contextlib.contextmanager
def acting_as_owner(directory: Path) -> Iterator[None]:
    """As root, in a directory of the daemon's user: be that user meanwhile."""
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
