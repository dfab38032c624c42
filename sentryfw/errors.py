"""The exceptions of SentryFW, with the exit code of each.

    SentryError                1   an operation failed
    +-- UsageError             2   the command line is not valid
    +-- NotRunning             3   the daemon is not running
    +-- NoPrivilege            4   root or CAP_NET_ADMIN is missing
    +-- NotInstalled           5   the table is not in the kernel
    +-- Unsupported            6   the kernel or the system lacks a feature
    +-- NotFound               7   an address, block or entry does not exist
    +-- ConfigError           78   the configuration is wrong (EX_CONFIG of sysexits.h)
    +-- KernelError            1   the kernel refused a request; carries its errno
    +-- NftError               1   libnftables refused a ruleset (netfilter/libnftables.py)
    +-- LedgerFault            1   the ledger cannot be used
    +-- ReactionFailed         1   a reaction to a decision failed
    +-- CaptureError           1   a capture file cannot be read (tools/replay/capture.py)
    +-- Interrupted            1   a signal ended a drill; an instance has 128 + its number

A message states what is wrong, where, and what to do; an operator sees it as it is. Errors in
untrusted bytes are ValueErrors that do not leave their module's callers: MalformedMessage
(netlink/message.py) and BadAnswer (host/dns_message.py).
"""

import errno
import os
from typing import Self


class SentryError(Exception):
    """An operation failed; the base of all others."""

    exit_code = 1


class UsageError(SentryError):
    """The command line is not valid."""

    exit_code = 2


class NotRunning(SentryError):
    """The daemon is not running."""

    exit_code = 3


class NoPrivilege(SentryError):
    """Root or CAP_NET_ADMIN is missing."""

    exit_code = 4


class NotInstalled(SentryError):
    """The table is not in the kernel."""

    exit_code = 5


class Unsupported(SentryError):
    """The kernel or the system lacks a feature."""

    exit_code = 6


class NotFound(SentryError):
    """An address, block or entry does not exist."""

    exit_code = 7


class ConfigError(SentryError):
    """The faults of a configuration, all of them, one line each."""

    exit_code = 78

    def __init__(self, where: str, faults: list[str], files: list[str] | None = None) -> None:
        """`files`: the file of each fault, if not all of them are in `where`."""
        self.where = where
        self.faults = faults
        self.files = files or [where] * len(faults)
        lines = zip(self.files, faults, strict=True)
        super().__init__("\n".join(f"{file}: {fault}" for file, fault in lines))

    def __reduce__(self) -> tuple[type[Self], tuple[str, list[str], list[str]]]:
        return type(self), (self.where, self.faults, self.files)


class KernelError(SentryError):
    """The kernel answered a netlink request with an errno."""

    def __init__(self, code: int, what: str) -> None:
        self.code = code
        self.what = what
        super().__init__(f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (self.code, self.what)


class LedgerFault(SentryError):
    """The ledger cannot be used: damaged, locked, of a newer schema, or on a full disk."""


class ReactionFailed(SentryError):
    """A reaction to a decision failed; the message gives the reason."""


NOT_ROOT = "this needs root (or CAP_NET_ADMIN): run it with sudo"
