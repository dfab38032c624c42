"""A terminal in cbreak mode: keys, signals, sizes; the old modes are restored at the end."""

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
SEQUENCE_TIMEOUT_S: Final = 0.05
"""Seconds for the rest of an escape sequence; after that it was the Escape key."""
END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAX_SEQUENCE_BYTES: Final = 16
GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Keys:
    """A parser of bytes into keys; a sequence may arrive in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_pending(self) -> bool:
        """Whether an incomplete sequence waits for its rest."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Return the keys that are complete."""
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
        """Return the keys of an incomplete sequence that has no rest: the Escape key, or none."""
        rest, self._rest = self._rest, b""
        return [NAMES[rest]] if rest == b"\x1b" else []


class Terminal:
    """Standard input and output, both a terminal. Ctrl-Z is disabled, because it would leave the
    screen and its modes as they are."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._modes: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._ours, self._theirs = socket.socketpair()
        self._typed = Keys()
        self._wakeup = -1
        self.ended_by = 0
        """The signal that requested the end, or 0."""

    def __enter__(self) -> Self:
        self._modes = termios.tcgetattr(self._source)
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        for number in END_SIGNALS:
            self._handlers[number] = signal.signal(number, self._end)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _nothing)
        tty.setcbreak(self._source)
        modes = termios.tcgetattr(self._source)
        modes[6][termios.VSUSP] = b"\0"
        # read(2) never waits: Ctrl-C discards what was typed before it (termios(3), NOFLSH), so a
        # terminal that was readable may be empty when it is read.
        modes[6][termios.VMIN] = 0
        termios.tcsetattr(self._source, termios.TCSADRAIN, modes)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._source, termios.TCSAFLUSH, self._modes)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._ours.close()
        self._theirs.close()

    def wake(self) -> None:
        """Make keys() return; for other threads."""
        with contextlib.suppress(BlockingIOError):
            self._theirs.send(b"\0")

    @property
    def size(self) -> tuple[int, int]:
        """The present columns and lines; 80 x 24 if the terminal does not report them."""
        columns, lines = os.get_terminal_size(self._sink)
        return columns or 80, lines or 24

    def keys(self, seconds: float) -> list[str]:
        """Return the typed keys; none after wake(), a resize, a signal or the timeout. Raise
        EOFError if the terminal is closed."""
        wait = SEQUENCE_TIMEOUT_S if self._typed.is_pending else seconds
        ready = self._ready(wait)
        if self._ours.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._ours.recv(4096)
        if self._source not in ready:
            return self._typed.flush()
        try:
            data = os.read(self._source, 256)
        except OSError:
            raise EOFError from None
        if not data and ready[self._source] & GONE:
            raise EOFError
        return self._typed.feed(data)

    def _ready(self, seconds: float) -> dict[int, int]:
        """Wait for typed keys or wake(); return the descriptors that are ready, with their events
        (poll(2))."""
        waiting = select.poll()
        waiting.register(self._source, select.POLLIN)
        waiting.register(self._ours, select.POLLIN)
        return dict(waiting.poll(seconds * 1000))

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.ended_by = number


def _sequence(data: bytes) -> bytes | None:
    """Return the byte or escape sequence at the start of the data; None if it is incomplete."""
    if data[:1] != b"\x1b":
        return data[:1]
    if len(data) == 1:
        return None
    if data[1:2] == b"O":
        return data[:3] if len(data) > 2 else None
    if data[1:2] != b"[":
        return data[:1]
    for at in range(2, min(len(data), MAX_SEQUENCE_BYTES)):
        if 0x40 <= data[at] <= 0x7E:  # a final byte (ECMA-48, section 5.4)
            return data[: at + 1]
    return data[:MAX_SEQUENCE_BYTES] if len(data) >= MAX_SEQUENCE_BYTES else None


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that only interrupts the wait."""
