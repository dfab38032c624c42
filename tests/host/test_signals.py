"""Signals end a process, or wait for the end of a change; no handler raises."""

import ast
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sentryfw
from sentryfw.host import signals

HANDLER = {"_note", "_end", "_nothing"}
"""Handlers in the package; each notes a number, or does nothing."""


def status_of(function: Callable[[], None]) -> int:
    """Return the wait status of a child that runs a function."""
    child = os.fork()
    if not child:
        try:
            function()
        finally:
            os._exit(7)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("number", signals.END_SIGNALS)
def test_a_signal_is_held_until_the_change_is_complete(
    number: signal.Signals, tmp_path: Path
) -> None:
    file = tmp_path / "changed"

    def change() -> None:
        signal.signal(number, signal.SIG_DFL)
        with signals.held():
            os.kill(os.getpid(), number)
            file.write_text("whole")

    status = status_of(change)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == number
    assert file.read_text() == "whole"


def test_a_change_within_a_change_holds_to_the_outer_end() -> None:
    with signals.held():
        with signals.held():
            pass
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert set(signals.END_SIGNALS) <= held
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(signals.END_SIGNALS)


def test_a_signal_ends_a_process_even_in_a_finalizer() -> None:
    """Python would print "Exception ignored" there, and go on."""

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.01)

    def lose() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals.leave_to_kernel()
        Finalized()

    assert os.WTERMSIG(status_of(lose)) == signal.SIGINT


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    """A shell without job control ignores SIGINT for its background jobs."""

    def interrupt() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.leave_to_kernel()
        os.kill(os.getpid(), signal.SIGINT)

    assert os.WEXITSTATUS(status_of(interrupt)) == 7


def _installed() -> Iterator[tuple[str, str]]:
    """Yield the place and the second argument of each signal.signal() in the package."""
    for path in Path(sentryfw.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal":
                yield f"{path.name}:{node.lineno}", ast.unparse(node.args[1])


def test_no_handler_of_the_package_raises() -> None:
    """A new handler has to be read: it may note its number, and nothing else."""
    known = {"signal.SIG_DFL", "signal.SIG_IGN", "handler", "lambda *_: None"}
    known |= HANDLER | {f"self.{name}" for name in HANDLER}
    assert [item for item in _installed() if item[1] not in known] == []
    raising = [
        path.name
        for path in Path(sentryfw.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in HANDLER
        for part in ast.walk(node)
        if isinstance(part, ast.Raise | ast.Call) and "append" not in ast.unparse(part)
        if any(arg.arg in {"number", "_number"} for arg in node.args.args)
    ]
    assert raising == []
