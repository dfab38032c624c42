"""PortSentry's options -> SentryFW's keys with their origins, and the options that have no key.

Pure. PortSentry's semantics are kept (docs/portsentry.md has the map), its faults are not: a block
has a timeout, a failed reaction does not count as a block, and no 65th port of a list is lost.

See docs/decisions.md: import-counts-probes.
"""

from typing import Final

from sentryfw.config.model import TRIGGERS
from sentryfw.config.types import IPNetwork
from sentryfw.engine.track import MAX_TARGETS
from sentryfw.host import address_list
from sentryfw.host.address_list import Warned
from sentryfw.tools.portsentry.files import File, PortSentryFiles
from sentryfw.tools.portsentry.imported import Draft, Imported, Remark
from sentryfw.tools.portsentry.modes import add_watch, find_modes
from sentryfw.tools.portsentry.parse import SeenHost, parse_hosts
from sentryfw.tools.portsentry.reactions import add_reactions, runnable_command

LEVELS: Final = {0: "observe", 1: "block", 2: "command"}
WINDOW: Final = "1d"
MAX_WARNINGS: Final = 20
"""Warnings on the lines of one history or blocked file."""

_NO_NEWLINE: Final = "no newline at the end: read whole (PortSentry 2.x cut the last character off)"


def convert(sources: PortSentryFiles, tcp: str | None = None, udp: str | None = None) -> Imported:
    """Convert PortSentry's files. `tcp` and `udp`: the modes, where they override the files."""
    draft = Draft(sources)
    modes, remarks = find_modes(sources, tcp, udp)
    draft.warnings += remarks
    add_watch(draft, *modes)
    _add_trigger(draft)
    _add_levels(draft)
    _add_ignored(draft)
    add_reactions(draft)
    text = "blocks without end: SentryFW's blocks have a timeout, see [block] timeouts"
    draft.unmapped.append(Remark("", 0, text))
    seen = _seen(sources.seen, draft.warnings)
    files = [sources.conf, *sources.ignore, *sources.seen]
    if sources.modes is not None:
        files.insert(1, sources.modes)
    paths = [str(file.path) for file in files]
    return Imported(draft.lines, draft.unmapped, draft.warnings, seen, paths)


def _add_trigger(draft: Draft) -> None:
    """Add [detect]: SCAN_TRIGGER N fires on hit max(1, N)."""
    setting, number = draft.number("SCAN_TRIGGER", 0)
    trigger = min(max(1, number), MAX_TARGETS)
    if number > MAX_TARGETS or number < 0:
        draft.warn(setting, f"SCAN_TRIGGER: {number} is out of range: read as {trigger}")
    fires = f"{draft.origin('SCAN_TRIGGER', setting)}, which fires on hit {trigger}"
    own: dict[str, int] = {**dict.fromkeys(TRIGGERS, trigger), "icmp": TRIGGERS["icmp"]}
    for key, value, origin in (
        ("count", "probes", "PortSentry counts hits, repeats on one port too"),
        ("trigger", trigger, fires),
        ("window", WINDOW, "PortSentry never forgot a hit: a day of them counts"),
        ("slow_trigger", trigger, "as trigger"),
        ("slow_window", WINDOW, "as window"),
    ):
        draft.add("detect", key, value, origin)
    draft.add("detect", "triggers", own, "only pings have a trigger of their own")


def _add_levels(draft: Draft) -> None:
    """Add BLOCK_TCP and BLOCK_UDP, which default to 0 in 2.x and to 1 in 1.x."""
    default = 1 if draft.sources.parsed.generation == 1 else 0
    has_command = runnable_command(draft) is not None
    for protocol in ("tcp", "udp"):
        name = f"BLOCK_{protocol.upper()}"
        setting, number = draft.number(name, default)
        if number not in LEVELS:
            draft.warn(setting, f"{name}: {number} means 0 to PortSentry: read as 0")
            number = 0
        if number == 2 and setting is not None and not has_command:
            reason = f"{name}: 2 is for KILL_RUN_CMD alone, and no command can be run"
            draft.leave_out(setting, reason)
            number = 0
        draft.add("block", protocol, LEVELS[number], draft.origin(name, setting))
    origin = "PortSentry only listens: a port below the trigger answers"
    draft.add("block", "unlisted", "accept", origin)


def _add_ignored(draft: Draft) -> None:
    """Add the ignore files as [never_block] addresses."""
    found: dict[str, str] = {}
    for file in draft.sources.ignore:
        parsed = address_list.parse(file.data)
        draft.add_warnings(str(file.path), parsed.warnings)
        if file.data and not file.data.endswith((b"\n", b"\r")):
            last = len(address_list.lines(file.data))
            draft.add_warnings(str(file.path), [Warned(last, _NO_NEWLINE)])
        for entry in parsed.entries:
            if not _is_always_accepted(entry.network):
                found.setdefault(_plain(entry.network), f"{file.path} line {entry.line}")
    for option, path in draft.sources.missing:
        setting = draft.options.get(option)
        draft.warn(setting, f"{option}: {path} does not exist: it exempted no source")
    if found:
        origin = "\n".join(f"{place}: {network}" for network, place in found.items())
        draft.add("never_block", "addresses", list(found), origin)


def _seen(files: list[File], warnings: list[Remark]) -> list[SeenHost]:
    """Return the hosts of the history and blocked files, and add the warnings on their lines."""
    found: dict[object, SeenHost] = {}
    for file in files:
        hosts, warned = parse_hosts(file.data)
        warnings += (Remark(str(file.path), line, text) for line, text in warned[:MAX_WARNINGS])
        for host in hosts:
            found.setdefault(host.address, host)
    return list(found.values())


def _is_always_accepted(network: IPNetwork) -> bool:
    """Return whether it needs no line: loopback, and 0.0.0.0, which sends no packets."""
    return network.is_loopback or network.is_unspecified


def _plain(network: IPNetwork) -> str:
    """Return a network without the /32 or /128 of a single address."""
    return str(network.network_address if network.num_addresses == 1 else network)
