"""Drop all privileges of the daemon but CAP_NET_ADMIN.

systemd starts the daemon without them. A daemon that root starts by hand drops them itself, if
its directories belong to the user that `sentryfw install` made.
"""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from sentryfw.config.model import Paths
from sentryfw.distribution import service_command
from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported
from sentryfw.host import account

CAP_NET_ADMIN: Final = 12
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
STATUS: Final = Path("/proc/self/status")

NO_NET_ADMIN: Final = (
    "the daemon needs CAP_NET_ADMIN and nothing else: start it as a service"
    f" ({service_command('start')}), or as root (sudo)"
)

_libc: Final = ctypes.CDLL(None, use_errno=True)


def require_net_admin() -> None:
    """Raise NoPrivilege without CAP_NET_ADMIN; called before anything changes."""
    if not has_net_admin():
        raise NoPrivilege(NO_NET_ADMIN)


def has_net_admin() -> bool:
    """Return whether this process has CAP_NET_ADMIN."""
    return bool(capabilities() >> CAP_NET_ADMIN & 1)


def require_root() -> None:
    """Raise NoPrivilege unless root runs this; called before anything changes."""
    if os.geteuid() != 0:
        raise NoPrivilege(NOT_ROOT)


def capabilities() -> int:
    """Return the effective capabilities, one bit each."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError as error:
        raise Unsupported(f"{STATUS}: {error.strerror}: mount -t proc proc /proc") from error
    for line in lines:
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise SentryError(f"{STATUS} has no CapEff")


def become_owner(paths: Paths) -> None:
    """Become the owner of the state directory for good, with CAP_NET_ADMIN alone.

    Does nothing unless root runs this, or where the state belongs to root (a trial, a container).
    """
    owner = account.owner_of(paths.state) if os.geteuid() == 0 else None
    if owner is None or owner.uid == 0:
        return
    for directory in (paths.runtime, paths.log):
        if not directory.exists():  # /run is empty after each boot
            directory.mkdir(mode=0o750, parents=True)
            os.chown(directory, owner.uid, owner.gid, follow_symlinks=False)
    _drop(owner)


def _drop(owner: account.Account) -> None:
    _prctl(PR_SET_KEEPCAPS, 1)
    for number in range(64):
        if number != CAP_NET_ADMIN and _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            break  # EINVAL: this kernel has fewer
    os.setgroups([])
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    header = struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0)
    kept = struct.pack("=3I", *[1 << CAP_NET_ADMIN] * 3)
    if _libc.capset(header, kept + bytes(12)):
        raise _failure("capset")
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    if _libc.prctl(option, *map(ctypes.c_ulong, padded)):
        raise _failure(f"prctl({option})")


def _failure(what: str) -> SentryError:
    return SentryError(f"privileges: {what}: {os.strerror(ctypes.get_errno())}")
