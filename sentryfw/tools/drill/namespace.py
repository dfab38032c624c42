"""Private network namespaces for the drill, the tests and the benchmarks.

A namespace has no name. It exists as long as the process that holds it, and that process dies with
its parent (PR_SET_PDEATHSIG), so that nothing remains even after kill -9.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported

CLONE_NEWNET: Final = 0x40000000
PR_SET_PDEATHSIG: Final = 1

T = TypeVar("T")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A private network namespace with lo up."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoPrivilege(NOT_ROOT)
        try:
            self._holder = subprocess.Popen(
                ["cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=_unshare,  # noqa: PLW1509 - before any thread starts
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unsupported(
                f"cannot create a network namespace ({error}): the kernel needs CONFIG_NET_NS"
            ) from error
        self._processes: list[subprocess.Popen[Any]] = []
        self.ip("link", "set", "lo", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The path for setns(2) and nsenter(1)."""
        return Path(f"/proc/{self._holder.pid}/ns/net")

    @property
    def pid(self) -> int:
        """The pid of the process that holds the namespace."""
        return self._holder.pid

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command inside; it is killed with the namespace."""
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=stdin, stdout=stdout, stderr=stderr, text=True, env=env,
            preexec_fn=self._enter,  # noqa: PLW1509 - four system calls, no lock is taken
        )  # fmt: skip
        self._processes.append(process)
        return process

    def run(
        self, *command: str | Path, timeout: float = 60, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; any exit code is a result."""
        with self.popen(command, env=env) as process:
            try:
                output, error = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        self._processes.remove(process)
        return subprocess.CompletedProcess(process.args, process.returncode, output, error)

    def ip(self, *arguments: str) -> str:
        """Run ip(8) inside, and return its output. Raise SentryError with its message."""
        done = self.run("ip", *arguments)
        if done.returncode:
            raise SentryError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def call(self, function: Callable[[], T]) -> T:
        """Call a function with this thread inside, for example to open a socket there."""
        return inside(self.path, function)

    def close(self) -> None:
        """Kill the processes inside, and with them the namespace."""
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()
        self._holder.kill()
        self._holder.communicate()

    def _enter(self) -> None:
        die_with_parent()
        enter(self.path)


def connect(left: Namespace, right: Namespace, names: tuple[str, str] = ("veth0", "veth0")) -> None:
    """Connect two namespaces by a veth pair, both ends up."""
    left.ip(
        "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", str(right.pid)
    )
    left.ip("link", "set", names[0], "up")
    right.ip("link", "set", names[1], "up")


def add_address(namespace: Namespace, interface: str, address: str) -> None:
    """Add an address with its prefix length to an interface, usable at once."""
    extra = ("nodad",) if ":" in address else ()
    namespace.ip("address", "add", address, "dev", interface, *extra)


def inside(path: Path, function: Callable[[], T]) -> T:
    """Call a function with this thread in the namespace at a path, and return to the old one."""
    home = Path("/proc/thread-self/ns/net")
    descriptor = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        try:
            return function()
        finally:
            _setns(descriptor)
    finally:
        os.close(descriptor)


def enter(path: Path) -> None:
    """Move this thread into the namespace at a path (setns(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(descriptor)
    finally:
        os.close(descriptor)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _unshare() -> None:
    die_with_parent()
    if _libc.unshare(CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
