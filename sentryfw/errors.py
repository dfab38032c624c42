"""Everything that SentryFW raises on purpose, with the exit code each ends in.

    SentryError                1   something failed
    +-- UsageError             2   the command line says something impossible
    +-- NotRunning             3   the daemon is not there
    +-- NoPrivilege            4   root or CAP_NET_ADMIN is missing
    +-- NotInstalled           5   there is no table of ours in the kernel
    +-- Unsupported            6   the kernel or the system lacks a feature
    +-- NotFound               7   nothing by that name
    +-- ConfigError           78   the configuration is wrong (EX_CONFIG of sysexits.h)
    +-- KernelError            1   the kernel refused a request; carries its errno

A message says what is wrong, where, and what to do; it is shown to an operator as it is.
"""

import errno
import os
from typing import Self


class SentryError(Exception):
    exit_code = 1


class UsageError(SentryError):
    exit_code = 2


class NotRunning(SentryError):
    exit_code = 3


class NoPrivilege(SentryError):
    exit_code = 4


class NotInstalled(SentryError):
    exit_code = 5


class Unsupported(SentryError):
    exit_code = 6


class NotFound(SentryError):
    exit_code = 7


class ConfigError(SentryError):
    """All faults of a configuration at once, one line each."""

    exit_code = 78

    def __init__(self, where: str, faults: list[str], files: list[str] | None = None) -> None:
        """`files`: where each fault is, if not all of them are in `where`."""
        self.where = where
        self.faults = faults
        self.files = files or [where] * len(faults)
        lines = zip(self.files, faults, strict=True)
        super().__init__("\n".join(f"{file}: {fault}" for file, fault in lines))

    def __reduce__(self) -> tuple[type[Self], tuple[str, list[str], list[str]]]:
        return type(self), (self.where, self.faults, self.files)


class KernelError(SentryError):
    """An errno the kernel answered a netlink request with."""

    def __init__(self, code: int, what: str) -> None:
        self.code = code
        self.what = what
        super().__init__(f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")

    def __reduce__(self) -> tuple[type[Self], tuple[int, str]]:
        return type(self), (self.code, self.what)


NOT_ROOT = "this needs root (or CAP_NET_ADMIN): run it with sudo"
