"""Commands that are interrupted at random moments: each ends at once, by the signal."""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sentryfw.host import signals
from sentryfw.record.ledger import Ledger
from support import inprocess
from support.box import Box
from support.captures import START, THEM, US, pcap, tcp
from support.waiting import wait_for

TURNS = 100
MAX_DELAY_S = 0.06
"""block and unblock take 0.02 s."""
QUICKLY_S = 5.0
SOURCE = "203.0.113.9"

pytestmark = [pytest.mark.slow]


def ended(work: Callable[[], object], number: int, after: float) -> int:
    """Return the exit code of a child that gets a signal a while after main() has set its signals;
    negative: by the signal."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        leave_to_kernel = signals.leave_to_kernel

        def tell_the_parent() -> None:
            leave_to_kernel()
            os.write(tell, b"1")

        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python starts a program
            signals.leave_to_kernel = tell_the_parent
            inprocess.SIGNALS = ()  # none is restored: one may come just after the command
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            raise
        finally:
            os._exit(99 if sys.exc_info()[0] else 0)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(after)
    os.kill(child, number)
    try:
        status = wait_for(lambda: _status(child), "it ends by its signal", QUICKLY_S)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status[0])


def _status(child: int) -> tuple[int, ...]:
    """Return the wait status of a child that has ended; nothing while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return (status,) if pid else ()


def interrupt_often(box: Box, *words: str | Path, seed: int) -> list[int]:
    """Run a command again and again; return how each run ended."""
    chance = random.Random(seed)
    codes = []
    for _ in range(TURNS):
        number = chance.choice((signal.SIGINT, signal.SIGTERM))
        after = chance.uniform(0.0, MAX_DELAY_S)
        code = ended(lambda: box.sentryfw(*words), number, after)
        assert code in {0, -number}, (code, after)
        codes.append(code)
    return codes


def test_watch_for_programs(installed: Box) -> None:
    assert 0 not in interrupt_often(installed, "watch", "--json", seed=1)


def test_replay(box: Box, tmp_path: Path) -> None:
    frames = [tcp(THEM, US, port) for port in range(1, 1000)]
    capture = tmp_path / "long.pcap"
    capture.write_bytes(pcap((START + n / 100, frame) for n, frame in enumerate(frames * 50)))
    codes = interrupt_often(box, "replay", capture, seed=2)
    assert sum(code < 0 for code in codes) > TURNS / 2


def test_kernel_and_ledger_agree_after_an_interrupted_change(installed: Box) -> None:
    """A block without its record would come without a reason, and a removed block that the ledger
    still has would be restored."""
    chance = random.Random(3)
    interrupted = 0
    for turn in range(TURNS):
        command = partial(installed.sentryfw, "unblock" if turn % 2 else "block", SOURCE)
        after = chance.uniform(0.0, MAX_DELAY_S)
        code = ended(command, signal.SIGTERM, after)
        interrupted += code < 0
        with Ledger(installed.settings.paths.ledger) as ledger:
            rows = list(ledger.newest_rows("unblocked_at IS NULL", [SOURCE]))
        recorded = any(row[0] for row in rows)
        assert (SOURCE in installed.elements("block4")) == recorded, (turn, after)
    assert interrupted > TURNS / 4
