"""Wrong inputs of the command line, each with the exit code that the manual page gives for it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

Words = tuple[str, ...]


class WrongInput(NamedTuple):
    """A command line that cannot be done; {home} stands for a directory with WRONG_FILES."""

    code: int
    words: Words

    def __str__(self) -> str:
        return " ".join(self.words)[:60].encode("ascii", "backslashreplace").decode()


NO_ADDRESSES: Final = (
    "", " ", "nonsense", "203.0.113", "203.0.113.256", "203.0.113.7.8", "203.0.113.7/33",
    "203.0.113.7/-1", "203.0.113.7/24/8", "203.0.113.07", "0xcb007107", "2001:db8::/129",
    "2001:db8:::1", "[2001:db8::1]", "203.0.113.7:22", "\udcff\udcfe", "\u0661.2.3.4", "1" * 9999,
    "; rm -rf /", "$(id)", "\x1b[2J", "http://203.0.113.7/", "203.0.113.7-203.0.113.9", "*",
)  # fmt: skip
NO_SOURCES: Final = (
    "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0/32", "::", "::1", "ff02::1",
    "0.0.0.0/0", "::/0",
)  # fmt: skip
"""Addresses that send nothing to us, or are all there are."""
NO_TIMES: Final = ("", "0", "-1", "5x", "1e9", "nan", "inf", "9" * 40, "1h 30m", "\u0665m")
NO_CONFIGURATIONS: Final = (
    "nowhere", "directory", "binary", "latin1", "utf16", "loop", "list", "long-line", "deep",
    "unknown-key", "large",
)  # fmt: skip
NO_CAPTURES: Final = ("empty", "nowhere", "directory", "binary", "list", "loop", "cut.pcap")

COMMAND_LINES: Final = tuple(
    [WrongInput(2, ("block", text)) for text in (*NO_ADDRESSES, *NO_SOURCES)]
    + [WrongInput(2, ("unblock", text)) for text in NO_ADDRESSES[:8]]
    + [WrongInput(2, ("explain", text)) for text in NO_ADDRESSES[:8]]
    + [WrongInput(2, ("allow", "add", text)) for text in (*NO_ADDRESSES[:8], "0.0.0.0/0", "::/0")]
    + [WrongInput(2, ("block", "203.0.113.7", "--timeout", text)) for text in NO_TIMES]
    + [WrongInput(2, (command, "--since", text))
       for command in ("report", "list", "export") for text in NO_TIMES[:5]]
    + [WrongInput(2, ("install", "--trial", text)) for text in NO_TIMES[:5]]
    + [WrongInput(78, ("check", f"{{home}}/{name}")) for name in NO_CONFIGURATIONS]
    + [WrongInput(1, ("replay", f"{{home}}/{name}")) for name in NO_CAPTURES]
    + [WrongInput(7, ("import-portsentry", f"{{home}}/{name}"))
       for name in ("nowhere", "directory", "list", "binary", "empty", "loop")]
    + [WrongInput(1, ("allow", "import", f"{{home}}/{name}"))
       for name in ("nowhere", "directory", "empty", "binary", "loop")]
    + [WrongInput(1, (*words, f"{{home}}/{name}"))
       for words in (("report", "--html"), ("support-dump",)) for name in ("directory", "no/x")]
)  # fmt: skip
OTHERS: Final = (
    WrongInput(2, ()), WrongInput(2, ("nonsense",)), WrongInput(2, ("",)), WrongInput(2, ("-x",)),
    WrongInput(2, ("--config",)), WrongInput(2, ("list", "--limit", "0")),
    WrongInput(2, ("list", "--limit", "x")), WrongInput(2, ("list", "extra")),
    WrongInput(2, ("status", "--xml")), WrongInput(2, ("block",)), WrongInput(2, ("unblock",)),
    WrongInput(2, ("unblock", "--all", "203.0.113.7")), WrongInput(7, ("unblock", "203.0.113.9")),
    WrongInput(7, ("unblock", "203.0.114.0/24")), WrongInput(2, ("explain",)),
    WrongInput(2, ("block", "203.0.113.7", "--comment")), WrongInput(1, ("block", "198.18.0.1")),
    WrongInput(1, ("block", "198.18.0.0/24")), WrongInput(1, ("block", "198.18.0.254")),
    WrongInput(2, ("allow",)), WrongInput(2, ("allow", "nonsense")),
    WrongInput(7, ("allow", "del", "192.0.2.99")), WrongInput(2, ("watch",)),
    WrongInput(2, ("allow", "add", "192.0.2.1", "--until", "never")),
    WrongInput(2, ("allow", "add", "192.0.2.1", "--until", "1999-01-01 00:00")),
    WrongInput(2, ("export", "--format", "xml")), WrongInput(2, ("export", "--format", "xarf")),
    WrongInput(2, ("export", "--author", "x")), WrongInput(2, ("config", "nonsense")),
    WrongInput(2, ("config", "set", "detect.trigger")), WrongInput(3, ("reload",)),
    WrongInput(78, ("config", "set", "detect.triger", "4")), WrongInput(7, ("confirm",)),
    WrongInput(78, ("config", "set", "detect.trigger", "many")), WrongInput(2, ("replay",)),
    WrongInput(2, ("replay", "{home}/empty", "--listed", "tcp/99999")),
    WrongInput(2, ("replay", "{home}/empty", "--local", "x")), WrongInput(2, ("panic", "x")),
    WrongInput(2, ("import-portsentry", "--tcp-mode", "bogus")), WrongInput(2, ("drill", "x")),
    WrongInput(2, ("install", "--nonsense")), WrongInput(2, ("uninstall", "x")),
)  # fmt: skip
"""No arguments, too many, and what is not there."""


def write_wrong_files(home: Path) -> None:
    """Make the files that COMMAND_LINES names."""
    contents = {
        "empty": b"",
        "binary": bytes(range(256)) * 20,
        "latin1": "[decoy]\nbanner = 'caf\u00e9'\n".encode("latin-1"),
        "utf16": "[detect]\ntrigger = 4\n".encode("utf-16"),
        "list": b"nonsense\n" * 50,
        "long-line": b"x = " + b"1" * 100_000,
        "deep": b"a" + b".a" * 5000 + b" = 1\n",
        "unknown-key": b"[detect]\ntrigerr = 1\n",
        "large": b"#" * (1 << 21),
        "cut.pcap": bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + b"\0" * 7,
    }
    for name, content in contents.items():
        (home / name).write_bytes(content)
    (home / "directory").mkdir()
    (home / "loop").symlink_to("loop")


# --- damaged files of our own


def _garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def _directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))  # without a listener


DAMAGE: Final[dict[str, Callable[[Path], None]]] = {
    "garbage": _garbage, "directory": _directory, "loop": _loop, "pipe": _pipe, "socket": _socket,
}  # fmt: skip
DAMAGED: Final = ("ledger", "allowlist", "control", "lock", "events")
"""Properties of [paths] whose file is damaged."""
READING: Final[tuple[Words, ...]] = (
    ("status",), ("list",), ("list", "--would-block"), ("report",), ("explain", "203.0.113.7"),
    ("export",), ("allow", "list"), ("doctor",), ("block", "203.0.113.8"), ("unblock", "--all"),
)  # fmt: skip
"""Commands that meet the damage."""
