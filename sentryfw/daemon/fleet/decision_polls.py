"""Asks CrowdSec's local API again and again, in a thread; what it answers is taken elsewhere.

The API sends what has changed since this bouncer's last question. After a start and after each
fault everything is compared, because a lost answer is not sent again. While the API is away nothing
is lifted: what is in effect ends at its time.

See docs/decisions.md: crowdsec-member.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from ipaddress import IPv6Network
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sentryfw.daemon.fleet.crowdsec_member import CrowdsecMember, Reach
from sentryfw.errors import SentryError
from sentryfw.record.recorder import Recorder
from sentryfw.respond.neighbours.stream import BouncerPlace, DecisionChanges, Query, ask, read_key
from sentryfw.respond.reaction_queue import reason_of

MAX_RETRY_S: Final = 600.0
"""Longest pause after a fault: it begins with the interval, and doubles."""
SHORT_S: Final = 60.0
"""Seconds to the next comparison if a decision by hand had no place."""
TAKE_BATCH: Final = 100
"""Decisions that are taken at once: requests of the control socket wait for it."""

Submit = Callable[[Callable[[], Any]], "Future[Any]"]
"""Runs a function in the thread of the control socket."""

T = TypeVar("T")

log: Final = logging.getLogger("sentryfwd")


class DecisionPolls:
    """Asks the API, and gives the member what it answers."""

    def __init__(
        self, member: CrowdsecMember, recorder: Recorder, submit: Submit,
        whole6: Callable[[], tuple[IPv6Network, ...]],
    ) -> None:  # fmt: skip
        """`whole6`: returns the networks whose addresses stand for themselves."""
        self._member = member
        self._recorder = recorder
        self._submit = submit
        self._whole6 = whole6
        self._compare_at = 0.0
        """Time of time.monotonic() from which everything is asked for."""
        self._retry_s = member.config.interval

    def run(self) -> None:
        """Ask until the daemon ends."""
        while True:
            try:
                wait = self.poll()
            except CancelledError:
                return
            time.sleep(wait)

    def poll(self) -> float:
        """Ask once; return the seconds to the next time. Raise CancelledError at the end."""
        try:
            found = self._ask()
            if not found.error:
                self._take(found)
        except CancelledError:
            raise
        except Exception as error:  # shown in the status, and tried again
            if not isinstance(error, SentryError | OSError):
                log.exception("crowdsec: unexpected error")
            found = DecisionChanges(reason_of(error))
        self._follow(found)
        if found.error:
            self._compare_at = 0.0
            wait, self._retry_s = self._retry_s, min(2 * self._retry_s, MAX_RETRY_S)
            return wait
        self._retry_s = self._member.config.interval
        return self._retry_s

    def _ask(self) -> DecisionChanges:
        config = self._member.config
        if config.url is None or config.credentials is None:
            return DecisionChanges("not configured")
        place = BouncerPlace(
            config.url, str(config.ca) if config.ca else None, config.timeout,
            read_key(config.credentials),
        )  # fmt: skip
        compare = time.monotonic() >= self._compare_at
        query: Query = self._in_turn(partial(self._member.query, compare=compare))
        return ask(place, query, self._whole6())

    def _take(self, found: DecisionChanges) -> None:
        take = self._member.take
        self._in_turn(partial(self._member.count, found.refused))
        for begin in range(0, len(found.gone), TAKE_BATCH):
            self._in_turn(partial(take, found.gone[begin : begin + TAKE_BATCH], ()))
        for begin in range(0, len(found.new), TAKE_BATCH):
            self._in_turn(partial(take, (), found.new[begin : begin + TAKE_BATCH]))
        if found.compared:
            self._compare_at = time.monotonic() + self._member.compare_s
        if found.is_short:
            self._compare_at = min(self._compare_at, time.monotonic() + SHORT_S)

    def _in_turn(self, work: Callable[[], T]) -> T:
        """Do work in the thread of the control socket. Raise CancelledError when that has ended."""
        try:
            waiting: Future[T] = self._submit(work)
        except RuntimeError:
            raise CancelledError from None
        return waiting.result()

    def _follow(self, found: DecisionChanges) -> None:
        """Show how the API is, and report a change of that."""
        before, now = self._member.reach, time.time()
        where = urlsplit(self._member.config.url or "").hostname
        fault = f"{where}: {found.error}" if found.error else ""
        self._member.reach = Reach(
            fault=fault, since=before.since if fault == before.fault else now,
            asked_at=before.asked_at if fault else now,
            left_out=found.left_out if found.compared else before.left_out,
            answers=before.answers + (not fault),
        )  # fmt: skip
        if fault == before.fault:
            return
        self._recorder.note("fleet-crowdsec", reached=not fault, error=fault)
        if fault:
            log.warning("crowdsec: %s; what is in effect here ends at its time", fault)
        else:
            log.info("crowdsec: %s answers", where)
