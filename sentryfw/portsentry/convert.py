"""PortSentry's options -> SentryFW's keys, each with where it came from; what has no key, and why.

Pure. The semantics are kept (docs/portsentry.md has the map), the faults are not: a block ends,
a failed reaction is no block, a list has no 65th port that is silently left out.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, Literal, NamedTuple

from sentryfw import allowlist
from sentryfw.allowlist import IPNetwork, Warned
from sentryfw.config import TRIGGERS, Paths
from sentryfw.engine.track import MAX_TARGETS
from sentryfw.fields import ports_text
from sentryfw.portsentry.commands import purpose
from sentryfw.portsentry.files import File, Sources
from sentryfw.portsentry.parse import (
    MODES,
    Seen,
    Setting,
    Settings,
    parse_hosts,
    parse_number,
    parse_ports,
    parse_settings,
)

Mode = Literal["off", "classic", "stealth", "advanced"]
MODE_NAMES: Final[dict[str, Mode]] = {
    "": "off", "off": "off", "none": "off",
    "tcp": "classic", "udp": "classic", "connect": "classic",
    "stcp": "stealth", "sudp": "stealth", "stealth": "stealth",
    "atcp": "advanced", "audp": "advanced",
}  # fmt: skip
"""1.x's flags and 2.x's switches."""
FLAGS: Final = {"classic": "-{}", "stealth": "-s{}", "advanced": "-a{}"}
LEVELS: Final = {0: "observe", 1: "block", 2: "command"}
ADVANCED_PORTS: Final = 1024
"""1.x's default of ADVANCED_PORTS_TCP and ADVANCED_PORTS_UDP."""
WINDOW: Final = "1d"
SHOWN: Final = 60
"""Characters of a value that stand in the comment above the key."""
Protocol = Literal["tcp", "udp"]
Value = str | int | list[str | int] | bool | dict[str, int]


class Line(NamedTuple):
    """One key of the configuration, and what it came from."""

    section: str
    key: str
    value: Value
    origin: str


class Remark(NamedTuple):
    """Something the administrator should know: of a file, a line (0: none), an option."""

    file: str
    line: int
    said: str


class Imported(NamedTuple):
    """Everything that follows from PortSentry's files."""

    lines: list[Line]
    unmapped: list[Remark]
    warnings: list[Remark]
    seen: list[Seen]
    """Hosts in the history and blocked files, each once."""
    sources: list[str]


class Converter:
    """One import; the state is the two lists of remarks."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._options = sources.settings.options
        self._file = str(sources.conf.path)
        self.lines: list[Line] = []
        self.unmapped: list[Remark] = []
        self.warnings: list[Remark] = []
        self._add_warnings(self._file, sources.settings.warnings)

    # --- modes and ports

    def watch(self, tcp: Mode, udp: Mode) -> None:
        """[watch] and [decoy]."""
        if tcp == udp == "advanced":
            self._line("watch", "mode", "unlisted", "-atcp and -audp: every port without a service")
            for protocol in ("tcp", "udp"):
                self._advanced(protocol)
        else:
            flags = " and ".join(_flag(mode, name) for mode, name in ((tcp, "tcp"), (udp, "udp")))
            origin = f'{flags}: chosen ports; "unlisted" would watch all without a service'
            self._line("watch", "mode", "traps", origin)
            self._traps("tcp", tcp)
            self._traps("udp", udp)
        for protocol, mode in (("tcp", tcp), ("udp", udp)):
            if mode == "classic":
                origin, ports = self._ports(f"{protocol.upper()}_PORTS")
                self._line("decoy", protocol, _ports_value(ports), origin)
        self._banner("classic" in {tcp, udp})

    def _advanced(self, protocol: Protocol) -> None:
        setting, number = self._upper(protocol)
        origin = self._origin(f"ADVANCED_PORTS_{protocol.upper()}", setting)
        self._line("watch", f"upper_{protocol}", max(1, number), origin)
        origin, excluded = self._ports(f"ADVANCED_EXCLUDE_{protocol.upper()}")
        self._line("watch", f"listed_{protocol}", _ports_value(excluded), origin)

    def _traps(self, protocol: Protocol, mode: Mode) -> None:
        if mode == "stealth":
            origin, ports = self._ports(f"{protocol.upper()}_PORTS")
        elif mode == "advanced":
            setting, number = self._upper(protocol)
            name, excluded = self._ports(f"ADVANCED_EXCLUDE_{protocol.upper()}")
            ports = _without([(0, number - 1)] if number else [], excluded)
            origin = self._origin(f"ADVANCED_PORTS_{protocol.upper()}", setting)
            origin = f"{origin}\n{name}"
        else:
            return
        self._line("watch", f"trap_{protocol}", _ports_value(ports), origin)

    def _upper(self, protocol: Protocol) -> tuple[Setting | None, int]:
        name = f"ADVANCED_PORTS_{protocol.upper()}"
        setting, number = self._number(name, ADVANCED_PORTS)
        if not 0 <= number <= 65536:
            self._warn(setting, f"{name}: {number} is out of range: read as {ADVANCED_PORTS}")
            number = ADVANCED_PORTS
        return setting, number

    def _ports(self, name: str) -> tuple[str, list[tuple[int, int]]]:
        setting = self._options.get(name)
        if setting is None:
            return f"{name} is not set", []
        ports, said = parse_ports(setting.value)
        for what in said:
            self._warn(setting, f"{name}: {what}")
        return self._origin(name, setting), ports

    def _banner(self, classic: bool) -> None:  # noqa: FBT001
        setting = self._options.get("PORT_BANNER")
        if setting is None or not setting.value:
            return
        if not classic:
            self._unmap(setting, "PORT_BANNER: no mode that is imported connects; -tcp and -udp do")
            return
        self._line("decoy", "banner", setting.value, self._origin("PORT_BANNER", setting))

    # --- detection

    def trigger(self) -> None:
        """SCAN_TRIGGER N fires on hit max(1, N)."""
        setting, number = self._number("SCAN_TRIGGER", 0)
        trigger = min(max(1, number), MAX_TARGETS)
        if number > MAX_TARGETS or number < 0:
            self._warn(setting, f"SCAN_TRIGGER: {number} is out of range: read as {trigger}")
        origin = self._origin("SCAN_TRIGGER", setting)
        self._line("detect", "count", "probes", "PortSentry counts hits, repeats on one port too")
        self._line("detect", "trigger", trigger, f"{origin}, which fires on hit {trigger}")
        self._line(
            "detect", "window", WINDOW, "PortSentry never forgot a hit: a day of them counts"
        )
        self._line("detect", "slow_trigger", trigger, "the same")
        self._line("detect", "slow_window", WINDOW, "the same")
        own: dict[str, int] = {**dict.fromkeys(TRIGGERS, trigger), "icmp": TRIGGERS["icmp"]}
        self._line("detect", "triggers", own, "no kind has a trigger of its own but pings")

    # --- what follows

    def levels(self) -> None:
        """BLOCK_TCP and BLOCK_UDP; both default to 0 in 2.x and to 1 in 1.x."""
        default = 1 if self._sources.settings.generation == 1 else 0
        has_command = self._runnable() is not None
        for protocol in ("tcp", "udp"):
            name = f"BLOCK_{protocol.upper()}"
            setting, number = self._number(name, default)
            if number not in LEVELS:
                self._warn(setting, f"{name}: {number} means 0 to PortSentry: read as 0")
                number = 0
            if number == 2 and setting is not None and not has_command:
                self._unmap(setting, f"{name}: 2 is for KILL_RUN_CMD alone, and none can be run")
                number = 0
            self._line("block", protocol, LEVELS[number], self._origin(name, setting))
        self._line(
            "block",
            "unlisted",
            "accept",
            "PortSentry only listens: a port below the trigger answers",
        )

    def reactions(self) -> None:
        """KILL_*, RESOLVE_HOST, HISTORY_FILE."""
        self._route()
        self._hosts_deny()
        self._command()
        setting, number = self._number("RESOLVE_HOST", 0)
        if setting is not None:
            self._line("respond.dns", "enabled", number == 1, self._origin("RESOLVE_HOST", setting))
        self._history()
        setting = self._options.get("BLOCKED_FILE")
        if setting is not None:
            self._unmap(setting, "BLOCKED_FILE: the kernel's sets are the list: sentryfw list")

    def _route(self) -> None:
        setting = self._options.get("KILL_ROUTE")
        if setting is None or not setting.value:
            return
        what = purpose(setting.value)
        origin = self._origin("KILL_ROUTE", setting)
        if what.kind == "route":
            self._line("respond.route", "enabled", True, origin)
            if "333.444.555.666" in setting.value:
                self._warn(
                    setting, "KILL_ROUTE: 333.444.555.666 is no gateway; a blackhole needs none"
                )
        elif what.kind == "firewall":
            self._unmap(setting, f"KILL_ROUTE: {what.why}: [block] does it, for a time")
        elif what.kind == "shell":
            self._unmap(setting, f"KILL_ROUTE: {what.why}")
        elif "KILL_RUN_CMD" in self._options:
            self._unmap(setting, "KILL_ROUTE: beside KILL_RUN_CMD: let one script call both")

    def _hosts_deny(self) -> None:
        setting = self._options.get("KILL_HOSTS_DENY")
        if setting is None or not setting.value:
            return
        line = setting.value
        if line.count("$TARGET$") != 1 or line.startswith("#") or line.endswith("\\"):
            self._unmap(setting, "KILL_HOSTS_DENY: not one line with $TARGET$ in it once")
            return
        origin = self._origin("KILL_HOSTS_DENY", setting)
        self._line("respond.hosts_deny", "enabled", True, origin)
        self._line("respond.hosts_deny", "line", line.replace("$TARGET$", "{address}"), origin)

    def _command(self) -> None:
        runnable = self._runnable()
        if runnable is None:
            self._say_why_no_command()
            return
        name, setting = runnable
        self._line("respond.command", "argv", setting.value, self._origin(name, setting))
        first, number = self._number("KILL_RUN_CMD_FIRST", 0)
        if name == "KILL_RUN_CMD":
            when = "before" if number == 1 else "after"
            origin = self._origin("KILL_RUN_CMD_FIRST", first)
            self._line("respond.command", "when", when, origin)

    def _runnable(self) -> tuple[str, Setting] | None:
        """The command that [respond.command] can run: KILL_RUN_CMD, else a KILL_ROUTE that is
        neither a route nor a firewall."""
        run = self._options.get("KILL_RUN_CMD")
        if run is not None and run.value.strip():
            return ("KILL_RUN_CMD", run) if _is_plain(run.value) else None
        route = self._options.get("KILL_ROUTE")
        if route is None or not route.value.strip():
            return None
        if purpose(route.value).kind == "command":
            return "KILL_ROUTE", route
        return None

    def _say_why_no_command(self) -> None:
        setting = self._options.get("KILL_RUN_CMD")
        if setting is not None and setting.value:
            why = purpose(setting.value).why or "only a shell could run it"
            self._unmap(setting, f"KILL_RUN_CMD: {why}")

    def _history(self) -> None:
        setting = self._options.get("HISTORY_FILE")
        if setting is None or not setting.value.startswith("/"):
            return
        generation = self._sources.settings.generation
        origin = self._origin("HISTORY_FILE", setting)
        self._line("respond.history", "format", f"portsentry{generation}", origin)
        if not PurePosixPath(setting.value).is_relative_to(Paths().log):
            origin += f"\nthe service writes below {Paths().log} alone: see docs/portsentry.md"
        self._line("respond.history", "path", setting.value, origin)
        if setting.value.startswith(("/tmp/", "/var/tmp/", "/dev/shm/")):  # noqa: S108
            self._warn(
                setting, "HISTORY_FILE: everybody can write to its directory: choose another"
            )

    def ignored(self) -> None:
        """The ignore files -> [never_block] addresses."""
        found: dict[str, str] = {}
        for file in self._sources.ignore:
            parsed = allowlist.parse(file.data)
            self._add_warnings(str(file.path), parsed.warnings)
            if file.data and not file.data.endswith((b"\n", b"\r")):
                last = len(allowlist.lines(file.data))
                self._add_warnings(str(file.path), [Warned(last, _NO_NEWLINE)])
            for entry in parsed.entries:
                if not _is_ours_anyway(entry.network):
                    found.setdefault(_plain(entry.network), f"{file.path} line {entry.line}")
        for option, path in self._sources.missing:
            setting = self._options.get(option)
            self._warn(setting, f"{option}: {path} is not there: nobody was spared")
        if found:
            origin = "\n".join(f"{place}: {network}" for network, place in found.items())
            self._line("never_block", "addresses", list(found), origin)

    # --- helpers

    def _line(self, section: str, key: str, value: Value, origin: str) -> None:
        self.lines.append(Line(section, key, value, origin))

    def _origin(self, name: str, setting: Setting | None) -> str:
        if setting is None:
            return f"{name} is not set"
        shown = f'="{setting.value}"' if len(setting.value) <= SHOWN else ""
        return f"{self._sources.conf.path.name} line {setting.line}: {name}{shown}"

    def _number(self, name: str, default: int) -> tuple[Setting | None, int]:
        setting = self._options.get(name)
        if setting is None:
            return None, default
        number, said = parse_number(setting.value, default)
        for what in said:
            self._warn(setting, f"{name}: {what}")
        return setting, number

    def _warn(self, setting: Setting | None, said: str) -> None:
        remark = Remark(self._file, setting.line if setting else 0, said)
        if remark not in self.warnings:
            self.warnings.append(remark)

    def _unmap(self, setting: Setting, said: str) -> None:
        self.unmapped.append(Remark(self._file, setting.line, said))

    def _add_warnings(self, file: str, warned: Iterable[Warned]) -> None:
        self.warnings += (Remark(file, line, said) for line, said in warned)


_NO_NEWLINE: Final = "no newline at the end: read whole (PortSentry 2.x cut the last character off)"


def convert(sources: Sources, tcp: str | None = None, udp: str | None = None) -> Imported:
    """Everything at once; `tcp` and `udp` name the modes where the files do not."""
    converter = Converter(sources)
    modes, remarks = _modes(sources, tcp, udp)
    converter.warnings += remarks
    converter.watch(*modes)
    converter.trigger()
    converter.levels()
    converter.ignored()
    converter.reactions()
    converter.unmapped.append(Remark("", 0, "blocks without end: SentryFW's end by themselves, see"
                                     " [block] timeouts"))  # fmt: skip
    seen = _seen(sources.seen, converter.warnings)
    files = [sources.conf, *sources.ignore, *sources.seen]
    if sources.modes is not None:
        files.insert(1, sources.modes)
    return Imported(
        converter.lines, converter.unmapped, converter.warnings, seen,
        [str(file.path) for file in files],
    )  # fmt: skip


def _modes(
    sources: Sources, tcp: str | None, udp: str | None
) -> tuple[tuple[Mode, Mode], list[Remark]]:
    """What is given on the command line, else in /etc/default/portsentry, else the default."""
    remarks: list[Remark] = []
    settings = Settings({}, [], 1)
    if sources.modes is not None:
        settings = parse_settings(sources.modes.data, MODES)
        remarks += (Remark(str(sources.modes.path), line, said) for line, said in settings.warnings)
    found: list[Mode] = []
    for protocol, given in (("tcp", tcp), ("udp", udp)):
        setting = settings.options.get(f"{protocol.upper()}_MODE")
        place = str(sources.modes.path) if sources.modes else ""
        if given is not None:
            word = given
        elif setting is not None:
            word = setting.value
        elif sources.modes is not None:
            word = "off"
        else:
            word = protocol if sources.settings.generation == 1 else "stealth"
            said = f"no file says in which {protocol} mode PortSentry ran: {word} is assumed"
            remarks.append(Remark(place, 0, f"{said}; --{protocol}-mode says otherwise"))
        mode = MODE_NAMES.get(word.strip().lstrip("-").lower())
        if mode is None:
            line = setting.line if setting else 0
            remarks.append(Remark(place, line, f"{word[:20]!r} is no mode: read as {protocol}"))
            mode = "classic"
        found.append(mode)
    return (found[0], found[1]), remarks


def _seen(files: list[File], warnings: list[Remark]) -> list[Seen]:
    found: dict[object, Seen] = {}
    for file in files:
        hosts, warned = parse_hosts(file.data)
        warnings += (Remark(str(file.path), line, said) for line, said in warned[:20])
        for host in hosts:
            found.setdefault(host.address, host)
    return list(found.values())


def _is_plain(text: str) -> bool:
    """Whether [respond.command] can run it, whatever it was for."""
    return purpose(text).kind != "shell" and text.lstrip().startswith("/")


def _flag(mode: Mode, protocol: str) -> str:
    return FLAGS[mode].format(protocol) if mode in FLAGS else f"no {protocol}"


def _ports_value(ports: list[tuple[int, int]]) -> list[str | int]:
    merged = dict.fromkeys(ports)
    return [first if first == last else ports_text((first, last)) for first, last in merged]


def _without(
    ranges: list[tuple[int, int]], excluded: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Ranges less the excluded ports."""
    for low, high in excluded:
        cut = []
        for first, last in ranges:
            pieces = ((first, min(last, low - 1)), (max(first, high + 1), last))
            cut += [piece for piece in pieces if piece[0] <= piece[1]]
        ranges = cut
    return ranges


def _is_ours_anyway(network: IPNetwork) -> bool:
    """Loopback, which is always spared, and 0.0.0.0, which no packet comes from."""
    return network.is_loopback or network.is_unspecified


def _plain(network: IPNetwork) -> str:
    """Without the /32 or /128 of a single address."""
    return str(network.network_address if network.num_addresses == 1 else network)
