"""The responder of one daemon: passes each decision to the reactions that are configured.

The packet path only puts a value into a queue (hand_over); a thread turns it into an incident
and passes it on. If nothing is configured there is neither a thread nor work.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.config.origin import NO_FILES, OriginFiles
from sentryfw.config.respond import Respond
from sentryfw.engine.networks import NetworkIndex
from sentryfw.record.records import Located, Named
from sentryfw.respond.incident import Decision, Incident, incident_of
from sentryfw.respond.mirrored_blocks import MirroredBlocks
from sentryfw.respond.reaction_queue import EXPECTED, Report, ResultReporter, reason_of
from sentryfw.respond.reactions import Reactions

MAX_BACKLOG: Final = 20_000
"""Decisions that may wait to be passed on."""
STOP_TIMEOUT_S: Final = 0.3
WITHDRAW_TIMEOUT_S: Final = 1.0
"""Seconds for the removal of what other systems act on, when the daemon ends."""

log: Final = logging.getLogger("sentryfwd")


class Callbacks(NamedTuple):
    """The daemon's functions that reactions call."""

    report: Report
    learnt: Callable[[Named | Located], None]
    """Called when a name or an origin was found."""
    is_blocked: Callable[[str], bool]
    """Called in the responder's thread only."""


class _Decided(NamedTuple):
    decision: Decision
    at: float
    epoch: float
    is_before: bool


class _Named(NamedTuple):
    incident: Incident


class _Ended(NamedTuple):
    address: str | None
    """None: every block."""


class _Began(NamedTuple):
    address: str
    timeout: float


class _Noted(NamedTuple):
    kind: str
    fields: dict[str, object]
    at: float


_Item = _Decided | _Named | _Ended | _Began | _Noted | None


class Responder:
    """Passes incidents to reactions, and tracks when blocks end."""

    def __init__(
        self,
        config: Respond,
        callbacks: Callbacks,
        never_block: NetworkIndex,
        prefix: str = "a",
        helper: Path | None = None,
        files: OriginFiles = NO_FILES,
    ) -> None:
        """`prefix`: see incident_of(); `helper` and `files`: see Reactions."""
        self._config = config
        self._prefix = prefix
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._faults = ResultReporter("respond", callbacks.report, quiet=True)
        self._reactions = Reactions(config, callbacks.report, helper, files)
        self._reactions.look_up_names(callbacks.learnt, self._named)
        self._reactions.look_up_origins(callbacks.learnt)
        self.mirrored = MirroredBlocks(
            self._reactions.mirrors, never_block, callbacks.is_blocked, self._faults
        )
        self._thread = threading.Thread(target=self._run, name="respond", daemon=True)

    # --- called by the daemon; none of these waits

    def protect(self, never_block: NetworkIndex) -> None:
        """Replace the networks that are never blocked."""
        self.mirrored.protect(never_block)

    @property
    def is_needed(self) -> bool:
        """Whether any reaction is configured."""
        return bool(self._reactions.parts)

    @property
    def wants_before(self) -> bool:
        """Whether the command runs before a block is made."""
        return self._reactions.command is not None and self._config.command.when == "before"

    def start(self) -> None:
        """Start the threads of the configured reactions."""
        if self.is_needed:
            for part in self._reactions.parts:
                part.start()
            self._thread.start()

    def hand_over(
        self, decision: Decision, at: float, epoch: float, *, is_before: bool = False
    ) -> None:
        """Pass on a decision; `at`, `epoch`: see incident_of().

        `is_before`: the block is about to be made; only the command gets it.
        """
        if not self.is_needed:
            return
        if self._inbox.qsize() >= MAX_BACKLOG:
            self._faults.failure("", f"{MAX_BACKLOG} decisions wait: no reactions to more")
        else:
            self._inbox.put(_Decided(decision, at, epoch, is_before))

    def noted(self, kind: str, fields: dict[str, object]) -> None:
        """Pass on an event about the daemon itself; webhooks send it if it is urgent."""
        if self._reactions.webhooks and self._inbox.qsize() < MAX_BACKLOG:
            self._inbox.put(_Noted(kind, fields, time.time()))

    def began(self, address: str, timeout: float) -> None:
        """React to a block that was made by hand."""
        if self._reactions.mirrors:
            self._inbox.put(_Began(address, timeout))

    def ended(self, address: str | None) -> None:
        """React to the end of a block, or of every block (None), before its timeout."""
        if self._reactions.mirrors:
            self._inbox.put(_Ended(address))

    def restore(self, active: dict[str, float], proven: Collection[str] = ()) -> None:
        """Mirror the blocks that are active at the start, by seconds left; `proven`: which of them
        are. Call before start()."""
        self.mirrored.restore(active, proven)

    def withdraw(self, kept: Respond) -> None:
        """Remove mirrored blocks that another configuration does not want, or wants elsewhere.

        Call before stop().
        """
        self.mirrored.withdraw(self._config, kept)

    def stop(self, *, ends: bool = False) -> None:
        """Give running reactions a moment, then end them. `ends`: the daemon ends, too, and with it
        what other systems act on, because it could not be taken back when a block is over."""
        if not self.is_needed or not self._thread.is_alive():
            return
        deadline = time.monotonic() + STOP_TIMEOUT_S
        self._inbox.put(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._reactions.kill_commands()
        if ends and self.mirrored.withdraw_far():
            deadline = time.monotonic() + WITHDRAW_TIMEOUT_S
        for part in self._reactions.parts:
            part.stop(deadline)

    def status(self) -> dict[str, Any]:
        """Return the counts of each reaction: done, failed, waiting."""
        return {
            part.reporter.name: {
                "done": part.reporter.done,
                "failed": part.reporter.failed,
                "waiting": part.waiting,
            }
            for part in self._reactions.parts
        }

    # --- the responder's thread

    def _named(self, incident: Incident) -> None:
        """Take an incident back from the name lookup; called in its threads."""
        self._inbox.put(_Named(incident))

    def _run(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=self.mirrored.wait_s())
                if item is None:
                    return
                self._pass_on(item)
            except queue.Empty:
                pass  # a block may have ended
            except Exception as error:  # reported; the next item follows
                if not isinstance(error, EXPECTED):
                    log.exception("respond: unexpected error")
                self._faults.failure("", reason_of(error))
            self.mirrored.check_ends()

    def _pass_on(self, item: _Decided | _Named | _Ended | _Began | _Noted) -> None:
        match item:
            case _Decided():
                self._decided(item)
            case _Named(incident):
                self._notify(incident)
            case _Noted():
                self._notice(item)
            case _Began(address, timeout):
                self.mirrored.begin(address, timeout)
            case _Ended(address):
                self.mirrored.end(address)

    def _notice(self, item: _Noted) -> None:
        from sentryfw.respond.webhook.message import Notice  # noqa: PLC0415 - only with webhooks
        from sentryfw.respond.webhook.urgent import urgent_text  # noqa: PLC0415

        text = urgent_text(item.kind, item.fields)
        for webhook in self._reactions.webhooks if text else ():
            webhook.notice(Notice(item.kind, text, item.at))

    def _decided(self, item: _Decided) -> None:
        incident = incident_of(item.decision, item.at, item.epoch, self._prefix)
        names, command = self._reactions.names, self._reactions.command
        if names is not None:
            incident = names.with_known_name(incident)
        if command is not None and self._is_commanded(incident, is_before=item.is_before):
            command.put(incident)
        if item.is_before:
            return
        if incident.action == "blocked":
            self.mirrored.begin(incident.address, incident.timeout, incident)
        if names is None or not names.put(incident):
            self._notify(incident)

    def _is_commanded(self, incident: Incident, *, is_before: bool) -> bool:
        if incident.action == "refused":
            return incident.reason == "command"
        return is_before == self.wants_before

    def _notify(self, incident: Incident) -> None:
        for notifier in self._reactions.notifiers:
            notifier.put(incident)
        if self._reactions.crowdsec is not None:
            self._reactions.crowdsec.put(incident)
