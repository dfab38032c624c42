"""A terminal, key by key: cbreak mode, signals, sizes, and all of it as it was at the end."""

import contextlib
import os
import select
import signal
import socket
import termios
import tty
from types import FrameType
from typing import Any, Final, Self

SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown",
}  # fmt: skip
NAMES: Final = {b"\r": "enter", b"\n": "enter", b"\x1b": "escape", b"\x03": "q", b"\x04": "q"}
REST: Final = 0.05
"""Seconds for the rest of a sequence that came in two pieces; then it was the Escape key."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST: Final = 16
"""Bytes of an escape sequence."""


class Keys:
    """Bytes -> keys, however the line cuts them into pieces."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_pending(self) -> bool:
        """Whether there may be more to come of a sequence."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole now."""
        data, self._rest = self._rest + data, b""
        found = []
        while data:
            sequence = _sequence(data)
            if sequence is None:
                self._rest = data
                break
            data = data[len(sequence) :]
            if sequence[:1] != b"\x1b" or sequence == b"\x1b":
                found.append(NAMES.get(sequence, sequence.decode("ascii", "replace")))
            elif sequence in SEQUENCES:
                found.append(SEQUENCES[sequence])
        return found

    def flush(self) -> list[str]:
        """Nothing more came: it was the Escape key, or nothing that is known."""
        rest, self._rest = self._rest, b""
        return [NAMES[rest]] if rest == b"\x1b" else []


class Terminal:
    """Standard input and output, both a terminal. Ctrl-Z is no key here: it would leave the
    screen as it is."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._modes: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._ours, self._theirs = socket.socketpair()
        self._typed = Keys()
        self._wakeup = -1
        self.ended_by = 0
        """The signal that wants an end; 0: none."""

    def __enter__(self) -> Self:
        self._modes = termios.tcgetattr(self._source)
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        for number in ENDING:
            self._handlers[number] = signal.signal(number, self._end)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _nothing)
        tty.setcbreak(self._source)
        modes = termios.tcgetattr(self._source)
        modes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(self._source, termios.TCSADRAIN, modes)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(termios.error):  # the line is gone, and its modes with it
            termios.tcsetattr(self._source, termios.TCSAFLUSH, self._modes)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._ours.close()
        self._theirs.close()

    def wake(self) -> None:
        """From another thread: keys() returns."""
        with contextlib.suppress(BlockingIOError):
            self._theirs.send(b"\0")

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now; 80 x 24 where the terminal does not know."""
        columns, lines = os.get_terminal_size(self._sink)
        return columns or 80, lines or 24

    def keys(self, seconds: float) -> list[str]:
        """What was typed; returns without any when woken, resized, signalled, or the time is over.
        EOFError: nobody can type any more."""
        wait = REST if self._typed.is_pending else seconds
        ours = self._ours.fileno()
        ready, _, _ = select.select([self._source, ours], [], [], wait)
        if ours in ready:
            with contextlib.suppress(BlockingIOError):
                self._ours.recv(4096)
        if self._source not in ready:
            return self._typed.flush()
        try:
            data = os.read(self._source, 256)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return self._typed.feed(data)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.ended_by = number


def _sequence(data: bytes) -> bytes | None:
    """The byte or escape sequence that data begins with; None: there may be more of it to come."""
    if data[:1] != b"\x1b":
        return data[:1]
    if len(data) == 1:
        return None
    if data[1:2] == b"O":
        return data[:3] if len(data) > 2 else None
    if data[1:2] != b"[":
        return data[:1]
    for at in range(2, min(len(data), LONGEST)):
        if 0x40 <= data[at] <= 0x7E:  # a final byte (ECMA-48, section 5.4)
            return data[: at + 1]
    return data[:LONGEST] if len(data) >= LONGEST else None


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A signal that only wakes."""
