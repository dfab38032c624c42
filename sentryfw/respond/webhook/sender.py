"""One webhook: a thread that collects events and sends them, urgent ones at once.

Blocks, confinements and refusals wait for the next digest, or a moment; urgent events have a queue
of their own. While the server is unreachable both wait; beyond `spool` events are only counted.
"""

import itertools
import logging
import math
import os
import socket
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sentryfw.config.webhook import Webhook
from sentryfw.errors import ReactionFailed
from sentryfw.host.credentials import read_secrets
from sentryfw.respond.incident import Incident
from sentryfw.respond.origin.finder import Find
from sentryfw.respond.reaction_queue import EXPECTED, Report, ResultReporter, reason_of
from sentryfw.respond.webhook.message import Event, Notice, WebhookMessage, request_of
from sentryfw.respond.webhook.post import Posted, post
from sentryfw.respond.worker_thread import WorkerThread

URGENT_GAP_S: Final = 60.0
"""Seconds between two urgent messages; what happens in between goes into the next one."""
MIN_RETRY_S: Final = 30.0
MAX_RETRY_S: Final = 3600.0
"""Seconds before a message that failed is tried again: doubled from the shortest to the longest."""
MAX_WOKEN: Final = 1000
"""Urgent events that are remembered, so that they are urgent once."""
MAX_TOKEN_CHARS: Final = 500
_MIN_WAIT_S: Final = 0.001

log: Final = logging.getLogger("sentryfwd")


class _Outbox:
    """Events that wait for the next message of one kind."""

    def __init__(self, gap: float, not_before: float, limit: int) -> None:
        self.events: deque[Event] = deque()
        self.lost = 0
        self.gap = gap
        self.not_before = not_before
        self._limit = limit
        self.identity = ""
        """Identity of the message that is tried again; empty: none is."""

    def put(self, event: Event) -> None:
        if len(self.events) < self._limit:
            self.events.append(event)
        else:
            self.lost += 1

    def take(self) -> tuple[list[Event], int]:
        taken = list(self.events), self.lost
        self.events.clear()
        self.lost = 0
        return taken

    def put_first(self, events: list[Event], lost: int) -> None:
        """Keep the events of a message that failed; newer ones give way to them."""
        self.lost += lost + max(0, len(self.events) + len(events) - self._limit)
        room = self._limit - len(events)
        kept = list(self.events)[:room]
        self.events = deque([*events, *kept])


class WebhookSender(WorkerThread):
    """Collects events for the next message, and sends it in a thread."""

    def __init__(
        self, config: Webhook, report: Report, name: str = "webhook", origins: Find | None = None
    ) -> None:
        """`origins`: finds the origins of sources; None: no files are configured for that."""
        super().__init__(name)
        self._origins = origins
        self._config = config
        self.reporter = ResultReporter(name, report)
        is_digest = config.when == "digest"
        now = time.monotonic()
        gap = config.every if is_digest else config.throttle
        self._digest = _Outbox(gap, now + (gap if is_digest else 0.0), config.spool)
        self._urgent = _Outbox(URGENT_GAP_S, now, config.spool)
        self._woken: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._retry = MIN_RETRY_S
        self._retry_at = 0.0
        self._hostname = socket.gethostname()
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """Events that wait for the next message."""
        return len(self._digest.events) + len(self._urgent.events)

    def put(self, incident: Incident) -> None:
        """Add an incident to the next message, an urgent one to the next urgent message."""
        is_proven = incident.action == "blocked" and not incident.forgeable
        is_urgent = self._config.urgent and (incident.inside or is_proven)
        if not is_urgent and incident.action == "refused" and self._config.when != "digest":
            return
        with self._condition:
            wakes = is_urgent and self._wakes(incident.action, incident.address)
            (self._urgent if wakes else self._digest).put(incident)
            self._condition.notify()

    def notice(self, notice: Notice) -> None:
        """Add an event about the daemon itself, unless it was sent recently."""
        with self._condition:
            if self._config.urgent and self._wakes(notice.kind, ""):
                self._urgent.put(notice)
                self._condition.notify()

    def stop(self, deadline: float) -> None:
        """End the thread; report events that were not sent."""
        super().stop(deadline)
        if self.waiting:
            self.reporter.failure("", f"{self.waiting} not sent: the daemon ended")

    def _wakes(self, kind: str, address: str) -> bool:
        """Return whether an urgent event is one for the first time within `every`."""
        now = time.monotonic()
        if now - self._woken.get((kind, address), -math.inf) < self._config.every:
            return False
        self._woken[kind, address] = now
        self._woken.move_to_end((kind, address))
        if len(self._woken) > MAX_WOKEN:
            self._woken.popitem(last=False)
        return True

    def _run(self) -> None:
        while True:
            with self._condition:
                while (box := self._due()) is None:
                    if self._stopping:
                        return
                    self._condition.wait(self._wait_s())
                events, lost = box.take()
            self._deliver(box, events, lost)

    def _due(self) -> _Outbox | None:
        if self._stopping:
            return None
        now = time.monotonic()
        boxes = (self._urgent, self._digest)
        return next((box for box in boxes if box.events and now >= self._at(box)), None)

    def _at(self, box: _Outbox) -> float:
        return max(box.not_before, self._retry_at)

    def _wait_s(self) -> float | None:
        times = [self._at(box) for box in (self._urgent, self._digest) if box.events]
        return max(_MIN_WAIT_S, min(times) - time.monotonic()) if times else None

    def _deliver(self, box: _Outbox, events: list[Event], lost: int) -> None:
        begin = time.monotonic()
        box.identity = box.identity or f"sentryfw-{os.getpid()}-{time.time_ns()}"
        message = WebhookMessage(self._hostname, box.identity, events, lost, box is self._urgent)
        posted = self._post(message)
        seconds = time.monotonic() - begin
        where = urlsplit(self._config.place).hostname
        addresses = [event.address if isinstance(event, Incident) else "" for event in events]
        if not posted.error:
            box.identity = ""
            self._retry, self._retry_at = MIN_RETRY_S, 0.0
            box.not_before = time.monotonic() + box.gap
            kind = "at once" if message.urgent else "in a digest"
            for address in addresses:
                self.reporter.success(address, f"{where}: sent {kind}: {posted.status}", seconds)
            return
        wait = max(self._retry, posted.retry_after)
        self._retry = min(self._retry * 2, MAX_RETRY_S)
        detail = f"{where}: {posted.error}; tried again in {wait:g}s"
        for address in addresses:
            self.reporter.failure(address, detail, seconds)
        with self._condition:
            self._retry_at = time.monotonic() + wait
            box.put_first(events, lost)

    def _post(self, message: WebhookMessage) -> Posted:
        try:
            token = read_token(self._config.credentials) if self._config.credentials else ""
            if self._origins is not None:
                message = message._replace(origins=self._origins(message.sources))
            request = request_of(self._config, token, message)
            ca = self._config.ca
            return post(
                **request._asdict(), ca=str(ca) if ca else None, timeout=self._config.timeout
            )
        except Exception as error:  # reported, and tried again
            if not isinstance(error, EXPECTED):
                log.exception("%s: unexpected error", self.reporter.name)
            return Posted(reason_of(error))


def read_token(path: Path) -> str:
    """Return the token in a file. Raise ReactionFailed if others can read it, or if it has none."""
    token = read_secrets(path).get("token")
    if not isinstance(token, str) or not token:
        raise ReactionFailed(f'{path}: write token = "..."')
    if len(token) > MAX_TOKEN_CHARS or not (token.isascii() and token.isprintable()):
        raise ReactionFailed(f"{path}: the token is not printable ASCII, or is too long")
    return token
