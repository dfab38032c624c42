"""watch: kernel, ledger and daemon live in a terminal; once, or as JSON lines, without one.

A thread looks once a second and does what was asked for; the terminal waits for neither, so a key
is answered at once however busy the host is.
"""

import contextlib
import io
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

from sentryfw.cli import allow, blocks, output
from sentryfw.cli import explain as explaining
from sentryfw.cli.terminal import Terminal
from sentryfw.cli.watch_look import Look, View
from sentryfw.cli.watch_screen import Action, Line, Screen, story
from sentryfw.config import Config
from sentryfw.errors import NotFound, NotRunning, SentryError, UsageError
from sentryfw.netfilter.table import Table
from sentryfw.plain import dumps

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EVERY: Final = 1.0
"""Seconds between two looks."""
LEAST: Final = 0.2
"""Seconds without a look, however long the last one took."""
ENDING: Final = 5.0
"""Seconds that something begun has to be finished in when the operator leaves."""
ONCE: Final = (80, 60)

Answer = View | list[str] | str | BaseException


def once(config: Config, *, json: bool) -> int:
    """One frame, of two looks a second apart; the exit code is that of `status`."""
    with closing(Table()) as table:
        look = Look(config, table)
        look.take()
        time.sleep(EVERY)
        view = look.take()
    if json:
        output.print_json(view._asdict())
    else:
        screen = Screen(history=False)
        screen.view = view
        width, height = _size()
        lines = [line.text.rstrip() for line in screen.lines(width, height + 1)[:-1]]
        while lines and not lines[-1]:
            lines.pop()
        sys.stdout.write("\n".join(lines) + "\n")
    if view.fault:
        return view.code
    return 0 if view.daemon else NotRunning.exit_code


def json_lines(config: Config) -> None:
    """One object a line, once a second, until somebody ends it."""
    with closing(Table()) as table:
        look = Look(config, table)
        look.take()
        while True:
            time.sleep(EVERY)
            sys.stdout.write(dumps(look.take()._asdict()) + "\n")
            sys.stdout.flush()


def live(config: Config) -> int:
    """Until q or Ctrl-C, which is exit code 0. UsageError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "watch needs a terminal; without one: --once, or --json for a line a second"
        )
    said = io.StringIO()
    with Terminal(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
        worker = Worker(config, terminal.wake)
        worker.start()
        with contextlib.redirect_stderr(said):  # whatever warns would write across the screen
            _show(terminal, worker)
        worker.end()
    if said.getvalue():
        output.note(said.getvalue().rstrip("\n"))
    return 0 if terminal.ended_by in {0, 2} else 128 + terminal.ended_by


def _show(terminal: Terminal, worker: "Worker") -> None:
    from rich.console import Console  # noqa: PLC0415 - 60 ms that --json need not pay
    from rich.live import Live  # noqa: PLC0415

    console = Console(highlight=False)
    screen = Screen()
    try:
        with Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False,
            redirect_stderr=False,
        ) as shown:  # fmt: skip
            while not terminal.ended_by:
                shown.update(_renderable(console, screen, terminal.size), refresh=True)
                if not _step(terminal, worker, screen):
                    return
    except (EOFError, OSError):  # the terminal is gone: nobody is there to be told
        terminal.ended_by = terminal.ended_by or 1


def _renderable(console: "Console", screen: Screen, size: tuple[int, int]) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console.size = size
    lines: list[Line] = screen.lines(*size)
    return Group(*(Text(text, style, no_wrap=True, overflow="crop") for text, style in lines))


def _step(terminal: Terminal, worker: "Worker", screen: Screen) -> bool:
    """Wait for something to happen; False: the operator has enough."""
    for key in terminal.keys(EVERY):
        if key == "q" and not screen.is_reading:
            return False
        action = screen.key(key)
        if action is not None:
            worker.do(action)
    for answer in worker.answers():
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, View):
            screen.view = answer
        elif isinstance(answer, list):
            screen.tell(answer)
        else:
            screen.message = answer
    return True


class Worker(threading.Thread):
    """Looks, and acts, beside the terminal."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        super().__init__(name="watch", daemon=True)  # a look that hangs holds no end up
        self._config = config
        self._wake = wake
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._is_acting = False

    def do(self, action: Action) -> None:
        self._is_acting = True
        self._actions.put(action)

    def answers(self) -> Iterator[Answer]:
        """What came since the last time."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._answers.get_nowait()

    def end(self) -> None:
        """What was begun is finished; a look is not waited for."""
        self._actions.put(None)
        if self._is_acting:
            self.join(ENDING)

    def run(self) -> None:
        try:
            with closing(Table()) as table:
                self._work(table)
        except BaseException as error:  # noqa: BLE001 - raised again where somebody hears it
            self._tell(error)

    def _work(self, table: Table) -> None:
        look, due = Look(self._config, table), 0.0
        while True:
            try:
                action = self._actions.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                started = time.monotonic()
                self._tell(look.take())
                due = max(started + EVERY, time.monotonic() + LEAST)
                continue
            if action is None:
                return
            self._tell(_done(self._config, table, action))
            self._is_acting = False
            due = 0.0

    def _tell(self, answer: Answer) -> None:
        self._answers.put(answer)
        with contextlib.suppress(OSError):  # the terminal is closed already
            self._wake()


def _done(config: Config, table: Table, action: Action) -> list[str] | str:
    """What became of an action: a story, or a line."""
    said: list[str] = []
    try:
        match action.what:
            case "unblock":
                said.append(f"unblocked {blocks.unblock(config, table, action.address)}")
            case "allow":
                allow.add(config, table, action.address, "allowed in watch", said.append)
            case _:
                found = explaining.explain(config, action.address)
                return story(found, explaining.story(found))
    except NotFound as error:
        return str(error)
    except (SentryError, OSError, sqlite3.Error) as error:
        return f"{action.what} {action.address} failed: {error}".replace("\n", " ")
    return "; ".join(said)


def _size() -> tuple[int, int]:
    """Of a frame that is printed: what the terminal shows of it at once, above the prompt."""
    if not sys.stdout.isatty():
        return ONCE
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    return columns or ONCE[0], lines - 1 if lines > 1 else ONCE[1]
