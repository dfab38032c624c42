"""The configured reactions. Modules are loaded only for them, so that the daemon stays small."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sentryfw.config.origin import NO_FILES, OriginFiles
from sentryfw.config.respond import Respond
from sentryfw.record.records import Located, Named
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import ReactionQueue, Report, ResultReporter, Work

if TYPE_CHECKING:
    from sentryfw.respond.dns import NameLookup
    from sentryfw.respond.mirror import BlockMirror
    from sentryfw.respond.mirrored_blocks import Mirror
    from sentryfw.respond.neighbours.crowdsec import CrowdsecPush
    from sentryfw.respond.origin.finder import Find
    from sentryfw.respond.webhook.sender import WebhookSender


def _finder(files: OriginFiles) -> "Find | None":
    """Return what looks origins up; None: no files are configured."""
    if not files.is_wanted:
        return None
    from sentryfw.respond.origin.finder import OriginFinder  # noqa: PLC0415

    return OriginFinder(*files)


class Part(Protocol):
    """A reaction with its own threads."""

    reporter: ResultReporter

    @property
    def waiting(self) -> int:
        """Incidents or changes that wait."""

    def start(self) -> None:
        """Start the threads."""

    def stop(self, deadline: float) -> None:
        """End the threads, and wait for them until a time of time.monotonic()."""


class Notifier(Part, Protocol):
    """A reaction that gets each incident."""

    def put(self, incident: Incident) -> object:
        """Add an incident, without waiting."""


class Reactions:
    """The reactions of one configuration."""

    def __init__(
        self, config: Respond, report: Report, helper: Path | None, files: OriginFiles = NO_FILES
    ) -> None:
        """`helper`: socket of the program that acts as root; None: this process is root. `files`:
        of origins, for mails, messages and events."""
        self._config = config
        self._find = _finder(files)
        self._report = report
        self._helper = helper
        self.kill_commands: Callable[[], None] = lambda: None
        """Ends the commands that run."""
        self.command = self._command() if config.command.argv else None
        self.names: NameLookup | None = None
        self.webhooks = self._webhooks()
        self.notifiers = [*self._notifiers(), *self.webhooks]
        """Reactions that print: they get the host's name, if names are looked up."""
        self._lasting = self._mirrors()
        self.crowdsec = self._crowdsec() if config.crowdsec.url else None

    def look_up_names(
        self, learnt: Callable[[Named], None], go_on: Callable[[Incident], None]
    ) -> None:
        """Look up names if the configuration asks for them; see NameLookup."""
        if self._config.dns.enabled:
            from sentryfw.respond.dns import NameLookup  # noqa: PLC0415

            def found(address: str, host: str) -> None:
                learnt(Named(address, host, time.time()))

            self.names = NameLookup(self._config.dns, self._report, found, go_on)

    def look_up_origins(self, learnt: Callable[[Located], None]) -> None:
        """Look up where blocked sources are from, if the configuration names files for that."""
        if self._find is not None:
            from sentryfw.respond.origin.events import OriginEvents  # noqa: PLC0415

            self.notifiers.append(OriginEvents(self._find, learnt, self._report))

    @property
    def mirrors(self) -> "Sequence[Mirror]":
        """The reactions that last as long as a block."""
        return [*self._lasting, *([self.crowdsec] if self.crowdsec else [])]

    @property
    def parts(self) -> list[Part]:
        """All reactions with their own threads."""
        parts: list[Part] = [] if self.command is None else [self.command]
        if self.names is not None:
            parts.append(self.names.queue)
        if self.crowdsec is not None:
            parts.append(self.crowdsec)
        return [*parts, *self.notifiers, *self._lasting]

    def _command(self) -> ReactionQueue:
        command = self._config.command
        if self._helper is not None:
            from sentryfw.respond.helper import HelperClient  # noqa: PLC0415

            work: Work = HelperClient(self._helper, self._config).run_command
        else:
            from sentryfw.respond.command import CommandRunner  # noqa: PLC0415

            runner = CommandRunner(command)
            self.kill_commands = runner.kill
            work = runner
        return ReactionQueue("command", work, self._report, workers=command.concurrency)

    def _notifiers(self) -> list[Notifier]:
        config, report = self._config, self._report
        found: list[Notifier] = []
        if config.log.to != "off":
            from sentryfw.respond.local_log import LocalLogger  # noqa: PLC0415

            found.append(ReactionQueue("log", LocalLogger(config.log), report, quiet=True))
        if config.history.format != "off":
            from sentryfw.respond.history import HistoryFile  # noqa: PLC0415

            found.append(ReactionQueue("history", HistoryFile(config.history), report, quiet=True))
        if config.syslog.host:
            from sentryfw.respond.syslog import SyslogSender  # noqa: PLC0415

            found.append(SyslogSender(config.syslog, report))
        if config.mail.to:
            from sentryfw.respond.mail import Mailer  # noqa: PLC0415

            found.append(Mailer(config.mail, report, self._find))
        return found

    def _webhooks(self) -> "list[WebhookSender]":
        if not self._config.webhook:
            return []
        from sentryfw.respond.webhook.sender import WebhookSender  # noqa: PLC0415

        return [
            WebhookSender(
                webhook, self._report, f"webhook-{number}" if number > 1 else "webhook", self._find
            )
            for number, webhook in enumerate(self._config.webhook, 1)
        ]

    def _mirrors(self) -> "list[BlockMirror]":
        found = []
        if self._config.hosts_deny.enabled:
            found.append(self._hosts_deny())
        if self._config.route.enabled:
            from sentryfw.respond.mirror import BlockMirror  # noqa: PLC0415
            from sentryfw.respond.route import Routes  # noqa: PLC0415

            routes = Routes()
            found.append(
                BlockMirror("route", routes.apply, routes.sync, self._report, close=routes.close)
            )
        if self._config.bgp.enabled:
            found.append(self._bgp())
        return found

    def _bgp(self) -> "BlockMirror":
        from sentryfw.respond.mirror import BlockMirror  # noqa: PLC0415
        from sentryfw.respond.neighbours.bgp import AnnouncedRoutes  # noqa: PLC0415

        routes = AnnouncedRoutes(self._config.bgp)
        mirror = BlockMirror(
            "bgp", routes.apply, routes.sync, self._report, close=routes.close, is_far=True
        )
        routes.again = functools.partial(mirror.want, present=True)
        return mirror

    def _crowdsec(self) -> "CrowdsecPush":
        from sentryfw.respond.neighbours.crowdsec import CrowdsecPush  # noqa: PLC0415

        return CrowdsecPush(self._config.crowdsec, self._report)

    def _hosts_deny(self) -> "BlockMirror":
        from sentryfw.respond.mirror import BlockMirror  # noqa: PLC0415

        if self._helper is not None:
            from sentryfw.respond.helper import HelperClient  # noqa: PLC0415

            helper = HelperClient(self._helper, self._config)
            return BlockMirror("hosts_deny", helper.apply, helper.sync, self._report)
        from sentryfw.respond.hosts_deny import HostsDenyFile  # noqa: PLC0415

        section = HostsDenyFile(self._config.hosts_deny.path, self._config.hosts_deny.line)
        return BlockMirror("hosts_deny", section.apply, section.sync, self._report)
