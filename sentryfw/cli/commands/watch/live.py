"""The live screen of watch.

A thread reads the state once a second and carries out the operator's actions. The terminal waits
for neither, so a key is answered at once on a busy host, too.
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
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sentryfw.cli import output
from sentryfw.cli.by_hand import unblock_address
from sentryfw.cli.commands import allow, explain
from sentryfw.cli.commands.watch.screen import Action, Screen, ScreenLine, story
from sentryfw.cli.commands.watch.state import READ_INTERVAL_S, StateReader, View
from sentryfw.cli.terminal import Terminal
from sentryfw.config.model import Config
from sentryfw.errors import NotFound, SentryError, UsageError
from sentryfw.netfilter.table import Table

MIN_PAUSE_S: Final = 0.2
"""Seconds between the end of a reading and the next one."""
ACTION_TIMEOUT_S: Final = 5.0
"""Seconds to wait for an unfinished action when the operator quits."""

Result = View | list[str] | str | BaseException


def live(config: Config) -> int:
    """Run the screen until `q` or a signal, and return the exit code; Ctrl-C is 0. Raise UsageError
    without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "watch needs a terminal; without one: --once, or --json for a line a second"
        )
    warnings = io.StringIO()
    with Terminal(sys.stdin.fileno(), sys.stdout.fileno()) as terminal:
        worker = Worker(config, terminal.wake)
        worker.start()
        with contextlib.redirect_stderr(warnings):  # they would overwrite the screen
            _show(terminal, worker)
        worker.end()
    if warnings.getvalue():
        output.note(warnings.getvalue().rstrip("\n"))
    return 0 if terminal.ended_by in {0, 2} else 128 + terminal.ended_by


def _show(terminal: Terminal, worker: "Worker") -> None:
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
    except (EOFError, OSError):  # the terminal is gone
        terminal.ended_by = terminal.ended_by or 1


def _renderable(console: Console, screen: Screen, size: tuple[int, int]) -> RenderableType:
    console.size = size
    lines: list[ScreenLine] = screen.lines(*size)
    return Group(*(Text(text, style, no_wrap=True, overflow="crop") for text, style in lines))


def _step(terminal: Terminal, worker: "Worker", screen: Screen) -> bool:
    """Wait for keys or results, and apply them. Return False if the operator quits."""
    for key in terminal.keys(READ_INTERVAL_S):
        if key == "q" and not screen.is_reading:
            return False
        action = screen.key(key)
        if action is not None:
            worker.do(action)
    for result in worker.results():
        if isinstance(result, BaseException):
            raise result
        if isinstance(result, View):
            screen.view = result
        elif isinstance(result, list):
            screen.show_story(result)
        else:
            screen.message = result
    return True


class Worker(threading.Thread):
    """The thread that reads the state and carries out actions."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        super().__init__(name="watch", daemon=True)  # a reading that hangs does not delay the exit
        self._config = config
        self._wake = wake
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._is_acting = False

    def do(self, action: Action) -> None:
        """Carry out an action in the thread."""
        self._is_acting = True
        self._actions.put(action)

    def results(self) -> Iterator[Result]:
        """Yield the results since the last call."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._results.get_nowait()

    def end(self) -> None:
        """Finish the current action; a reading is abandoned."""
        self._actions.put(None)
        if self._is_acting:
            self.join(ACTION_TIMEOUT_S)

    def run(self) -> None:
        try:
            with closing(Table()) as table:
                self._work(table)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._report(error)

    def _work(self, table: Table) -> None:
        reader, due = StateReader(self._config, table), 0.0
        while True:
            try:
                action = self._actions.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                started = time.monotonic()
                self._report(reader.read())
                due = max(started + READ_INTERVAL_S, time.monotonic() + MIN_PAUSE_S)
                continue
            if action is None:
                return
            self._report(_carry_out(self._config, table, action))
            self._is_acting = False
            due = 0.0

    def _report(self, result: Result) -> None:
        self._results.put(result)
        with contextlib.suppress(OSError):  # the terminal is closed already
            self._wake()


def _carry_out(config: Config, table: Table, action: Action) -> list[str] | str:
    """Carry out an action, and return a line, or the lines of a story."""
    lines: list[str] = []
    try:
        match action.what:
            case "unblock":
                lines.append(f"unblocked {unblock_address(config, table, action.address)}")
            case "allow":
                allow.add(
                    config, table, action.address, allow.Line("allowed in watch"), lines.append
                )
            case _:
                found = explain.explain_address(config, action.address)
                return story(found, explain.story(found))
    except NotFound as error:
        return str(error)
    except (SentryError, OSError, sqlite3.Error) as error:
        return f"{action.what} {action.address} failed: {error}".replace("\n", " ")
    return "; ".join(lines)
