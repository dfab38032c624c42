"""The sandbox of the decoy process: no user, no capability, no files, no network.

Imports nothing of SentryFW. Features that a kernel lacks (user namespaces, Landlock) are optional.
Required are a user other than root, no capability, and no way to regain one.
"""

import contextlib
import ctypes
import errno
import os
import pwd
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Final

USERS: Final = ("sentryfw", "nobody")
_NICENESS_LEVEL: Final = 5
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_RESTRICT_SELF: Final = 446
LANDLOCK_CREATE_RULESET_VERSION: Final = 1
MAX_MEMORY_BYTES: Final = 256 << 20
EXECUTED: Final = "again"
"""The last word of the command after the second exec."""

_FS_RIGHTS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_FS_ALL: Final = 0xFFFF
"""All rights to files, by version of Landlock (linux/landlock.h)."""
_NET_ALL: Final = 0x3
_SCOPE_ALL: Final = 0x3

_libc: Final = ctypes.CDLL(None, use_errno=True)


def enter(descriptors: int, parent: int) -> None:
    """Give up everything but a number of descriptors, and die with the parent.

    Raise OSError if a privilege would remain, or if the parent is gone.
    """
    _limit(descriptors)
    if os.geteuid() == 0:
        _libc.unshare(CLONE_NEWNET)
        _drop_bounding_set()
        _become_nobody()
    else:
        _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _libc.capset(struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0), bytes(24))
    _check()
    _shut_out_files()
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon is gone")


def shed_capabilities() -> None:
    """Execute this process again without CAP_NET_ADMIN, if it has any capability.

    The decoy inherits it from the daemon's service, whose unit forbids capset(2). The next exec
    loses it if the ambient set is empty.
    """
    if os.geteuid() == 0 or not _capabilities() or sys.orig_argv[-1] == EXECUTED:
        return
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    os.execv(sys.executable, [*sys.orig_argv, EXECUTED])  # noqa: S606 - ourselves


def _limit(descriptors: int) -> None:
    """Allow no processes, no files and little memory, as far as the service's unit permits."""
    for what, value in (
        (resource.RLIMIT_NOFILE, descriptors),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
    ):
        with contextlib.suppress(OSError, ValueError):
            hard = resource.getrlimit(what)[1]
            limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (limit, limit))
    with contextlib.suppress(OSError):
        os.nice(_NICENESS_LEVEL)  # packets are judged first


def _drop_bounding_set() -> None:
    for number in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            return  # EINVAL: this kernel has no more; EPERM: no right to, and none to lose


def _become_nobody() -> None:
    account = _account()
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _account() -> pwd.struct_passwd:
    """Return the account to switch to; the daemon's own user is the second choice."""
    for name in reversed(USERS):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid:
            return account
    raise OSError(errno.ENOENT, f"no user {' or '.join(USERS)} on this system")


def _check() -> None:
    """Raise OSError if this process is root or has a capability."""
    if 0 in os.getresuid() or 0 in os.getresgid():
        raise OSError(errno.EPERM, "still root")
    if _capabilities():
        raise OSError(errno.EPERM, f"still with capabilities {_capabilities():#x}")


def _capabilities() -> int:
    """Return the permitted, effective and ambient capabilities as bits."""
    rows = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    found = {name: int(value, 16) for name, _, value in rows if name.startswith("Cap")}
    return found["CapPrm"] | found["CapEff"] | found["CapAmb"]


def _shut_out_files() -> None:
    """Restrict by Landlock without a rule: no file to open, no port to bind, no signal to send."""
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return
    rights = struct.pack(
        "=QQQ",
        _FS_RIGHTS.get(version, _FS_ALL),
        _NET_ALL if version >= 4 else 0,
        _SCOPE_ALL if version >= 6 else 0,
    )[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, rights, len(rights), 0)
    if ruleset < 0:
        raise _failure("landlock_create_ruleset")
    if _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0):
        raise _failure("landlock_restrict_self")
    os.close(ruleset)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise _failure(f"prctl({option})")


def _failure(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")
