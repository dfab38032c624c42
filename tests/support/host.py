"""A host's directories and the command line on it, run in this process.

What sentryfw keeps outside its [paths] (the default configuration, the systemd unit) is moved
into the host's directory: no test may touch the machine's own /etc.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final, Self, TypeVar

from sentryfw.config import load
from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from support.inprocess import Stdio, Terminal, call, completed, moved, unprivileged

T = TypeVar("T")

OWN: Final = "198.18.0.1"
GATEWAY: Final = "198.18.0.254"
BIN: Final = Path(sys.executable).parent
PER_CALL: Final = (
    "SSH_CONNECTION",
    "SSH_CLIENT",
    "SENTRYFW_CONFIG",
    "NOTIFY_SOCKET",
    "PYTHONUNBUFFERED",
    "TERM",
)
"""Variables of the tests' own environment that must not decide anything."""


class Host(ABC):
    """A configuration, the files in `home`, and a table somewhere."""

    def __init__(self, settings: str = "") -> None:
        # Not pytest's tmp_path: others must be able to enter it, and the path of a UNIX socket
        # has room for 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
        self.home.chmod(0o755)
        self.config = self.home / "sentryfw.toml"
        self.configure(settings)
        self.default_config = self.home / "etc" / "sentryfw.toml"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home)

    def configure(self, settings: str, path: Path | None = None) -> None:
        """Write the configuration: [paths] into `home`, and these settings."""
        names = ("state", "runtime", "log")
        paths = "\n".join(f"{name} = {json.dumps(str(self.home / name))}" for name in names)
        (path or self.config).write_text(f"[paths]\n{paths}\n{settings}\n")

    @property
    def settings(self) -> Config:
        return load(self.config)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}

    # --- the command line

    def sentryfw(self, *words: str | Path, **options: Any) -> CompletedProcess[str]:
        """Run the command line with the host's configuration, to its end."""
        return self.run("-c", self.config, *words, **options)

    def run(
        self,
        *words: str | Path,
        env: dict[str, str] | None = None,
        as_root: bool = True,
        program: str = "sentryfw",
    ) -> CompletedProcess[str]:
        """Run it in this process with these words only."""
        stdio = Stdio()
        code = self._call(words, environment(env), stdio, as_root=as_root, program=program)
        return completed(words, code, stdio)

    def on_terminal(self, *words: str | Path, columns: int = 80) -> tuple[int, str]:
        """Run it with a terminal as its output; return the exit code and what was written."""
        stdio = Stdio(Terminal())
        env = environment({"TERM": "xterm-256color", "COLUMNS": str(columns)})
        code = self._call(("-c", self.config, *words), env, stdio)
        return code, stdio.out.getvalue() + stdio.error.getvalue()

    def _call(
        self, words: Sequence[str | Path], env: dict[str, str], stdio: Stdio, *,
        as_root: bool = True, program: str = "sentryfw",
    ) -> int:  # fmt: skip
        def inside() -> int:
            with contextlib.nullcontext() if as_root else unprivileged():
                return call(words, env=env, program=BIN / program, stdio=stdio)

        with moved(self.home):
            return self.inside(inside)

    # --- the table

    @abstractmethod
    def inside(self, function: Callable[[], T]) -> T:
        """Call a function where the host's table is."""

    @abstractmethod
    def install(self) -> None:
        """Make the table."""

    @abstractmethod
    def ruleset(self) -> str:
        """Return everything nftables holds, without what a clock or a packet changes."""

    @abstractmethod
    def elements(self, name: str) -> dict[str, dict[str, Any]]:
        """Return a set of our table: address -> timeout, expires ..."""

    @abstractmethod
    def never_blocked(self) -> list[IPNetwork]:
        """Return the networks in the never-block sets."""

    @abstractmethod
    def add_block(self, *addresses: str) -> None:
        """Block IPv4 addresses for an hour, as nft(8) does: the ledger does not know of them."""


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Return our environment without PER_CALL, and with more."""
    kept = {name: value for name, value in os.environ.items() if name not in PER_CALL}
    return {**kept, **(more or {})}
