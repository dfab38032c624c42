"""Keys from the bytes of a terminal."""

import os
import pty
import signal
import termios
import threading
from collections.abc import Iterator

import pytest

from sentryfw.cli.terminal import Keys, Terminal


@pytest.mark.parametrize(
    ("pieces", "keys"),
    [
        ([b"q"], ["q"]),
        ([b"\x1b[A\x1b[B"], ["up", "down"]),
        ([b"\x1bOA"], ["up"]),
        ([b"\x1b[5~\x1b[6~"], ["pageup", "pagedown"]),
        ([b"\x1b", b"[A"], ["up"]),
        ([b"\x1b[", b"A"], ["up"]),
        ([b"\x1b[1;5Cq"], ["q"]),
        ([b"\x1bq"], ["escape", "q"]),
        ([b"\r\n"], ["enter", "enter"]),
        ([b"\xff"], ["\N{REPLACEMENT CHARACTER}"]),
        ([b"\x1b[" + b"1" * 30 + b"q"], ["1"] * 16 + ["q"]),
    ],
    ids=["plain", "arrows", "application", "pages", "in two", "in two, later", "unknown", "alt",
         "enter", "garbage", "endless"],
)  # fmt: skip
def test_keys_are_parsed_from_bytes_in_pieces(pieces: list[bytes], keys: list[str]) -> None:
    typed = Keys()
    assert [key for piece in pieces for key in typed.feed(piece)] == keys


@pytest.mark.parametrize(("rest", "keys"), [(b"\x1b", ["escape"]), (b"\x1b[", []), (b"", [])])
def test_a_sequence_without_a_rest_is_the_escape_key_or_nothing(
    rest: bytes, keys: list[str]
) -> None:
    typed = Keys()
    assert typed.feed(rest) == []
    assert typed.flush() == keys
    assert typed.feed(b"q") == ["q"]


# --- the terminal itself


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The master and the slave of a pseudo-terminal."""
    master, slave = pty.openpty()
    yield master, slave
    for end in (master, slave):
        os.close(end)


def test_ctrl_c_ends_it_even_if_it_discards_what_was_typed_before(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal was readable, and is empty when it is read: the kernel discards the input at
    Ctrl-C (NOFLSH in termios(3)), and Python repeats a read that a signal interrupts."""
    master, slave = ends
    read = os.read

    def discarded(descriptor: int, count: int) -> bytes:
        termios.tcflush(descriptor, termios.TCIFLUSH)
        signal.raise_signal(signal.SIGINT)
        return read(descriptor, count)

    rescue = threading.Timer(3.0, os.write, (master, b"x"))
    with Terminal(slave, slave) as terminal:
        os.write(master, b"\x1a")
        monkeypatch.setattr(os, "read", discarded)
        rescue.start()
        assert terminal.keys(2.0) == []
        rescue.cancel()
        assert terminal.ended_by == signal.SIGINT


def test_keys_are_read_and_a_wake_ends_the_wait(ends: tuple[int, int]) -> None:
    master, slave = ends
    before = termios.tcgetattr(slave)
    with Terminal(slave, slave) as terminal:
        os.write(master, b"j\x1b[A")
        assert terminal.keys(2.0) == ["j", "up"]
        terminal.wake()
        assert terminal.keys(60.0) == []
        assert terminal.keys(0.01) == []
    assert termios.tcgetattr(slave) == before


def test_a_closed_terminal_is_the_end_of_the_input() -> None:
    master, slave = pty.openpty()
    with Terminal(slave, slave) as terminal:
        os.close(master)
        with pytest.raises(EOFError):
            terminal.keys(2.0)
    os.close(slave)
