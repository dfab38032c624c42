"""The master side of a terminal that a program runs in: frames, typed keys, sizes."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from subprocess import Popen
from typing import Any, Final, Self

from sentryfw.tools.drill.namespace import Namespace
from support.waiting import wait_for

HOME: Final = "\x1b[H"
"""The bytes that begin a frame."""
ENTER: Final = "\x1b[?1049h"
LEAVE: Final = "\x1b[?1049l"
SHOW_CURSOR: Final = "\x1b[?25h"
CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|4[0-7]|38|48|9[0-7])[0-9;]*m")


class Screen:
    """A program with a controlling terminal of its own."""

    def __init__(
        self,
        namespace: Namespace,
        command: list[Any],
        env: dict[str, str],
        size: tuple[int, int] = (80, 24),
    ) -> None:
        self._ours, terminal = pty.openpty()
        self.resize(*size)
        self.modes = termios.tcgetattr(terminal)
        self.process: Popen[str] = namespace.popen(
            ["setsid", "--ctty", *command],
            stdin=terminal, stdout=terminal, stderr=terminal,
            env={"TERM": "xterm-256color", **env},
        )  # fmt: skip
        self._terminal = terminal
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)
        self._reader.join(5)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 1 << 16):
                self._data += data
        except OSError:  # EIO: the other end is closed
            return

    def resize(self, columns: int, lines: int) -> None:
        """Set the size; the kernel sends SIGWINCH."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def raw(self) -> str:
        """The output so far."""
        return self._data.decode(errors="replace")

    def frames(self) -> list[list[str]]:
        """Return every whole frame as lines of text."""
        parts = self.raw.split(LEAVE)[0].split(HOME)[1:]
        return [CONTROL.sub("", part).replace("\r", "").split("\n") for part in parts]

    def shows(self, text: str) -> bool:
        """Return whether the text is in the last frame."""
        frames = self.frames()
        return bool(frames) and text in "\n".join(frames[-1])

    def wait(self, text: str, seconds: float = 15.0) -> list[str]:
        """Wait for the frame that shows the text; return it."""
        try:
            wait_for(lambda: self.shows(text), f"the screen shows {text!r}", seconds)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in:\n{self.text()}") from None
        return self.frames()[-1]

    def text(self) -> str:
        frames = self.frames()
        return "\n".join(frames[-1]) if frames else self.raw

    def end(self, seconds: float = 10.0) -> int:
        """Return the exit code; assert that the terminal's settings are restored."""
        code = self.process.wait(seconds)
        wait_for(lambda: LEAVE in self.raw, "the screen is left", 2)
        assert self.raw.rindex(SHOW_CURSOR) > self.raw.rindex("\x1b[?25l")
        assert termios.tcgetattr(self._terminal) == self.modes
        return code
