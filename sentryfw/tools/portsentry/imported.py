"""The result of an import from PortSentry, and the draft that collects it. Pure."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from sentryfw.host.address_list import Warned
from sentryfw.tools.portsentry.files import PortSentryFiles
from sentryfw.tools.portsentry.parse import SeenHost, Setting, parse_number, parse_ports

MAX_SHOWN_LENGTH: Final = 60
"""Characters of a value in the comment above its key; a longer value is left out there."""

Protocol = Literal["tcp", "udp"]
PortRange = tuple[int, int]
Value = str | int | list[str | int] | bool | dict[str, int]


class ConfigLine(NamedTuple):
    """A key of the configuration, and its origin."""

    section: str
    key: str
    value: Value
    origin: str


class Remark(NamedTuple):
    """A remark for the administrator on a file and a line; line 0: the whole file."""

    file: str
    line: int
    said: str


class Imported(NamedTuple):
    """The result of an import."""

    lines: list[ConfigLine]
    unmapped: list[Remark]
    """Options that have no key, with the reason."""
    warnings: list[Remark]
    seen: list[SeenHost]
    """Hosts in the history and blocked files, each once."""
    sources: list[str]
    """The paths of the files that were read."""


class Draft:
    """The lines and remarks of an import so far, and access to PortSentry's options."""

    def __init__(self, sources: PortSentryFiles) -> None:
        self.sources = sources
        self.options = sources.parsed.options
        self.lines: list[ConfigLine] = []
        self.unmapped: list[Remark] = []
        self.warnings: list[Remark] = []
        self._file = str(sources.conf.path)
        self.add_warnings(self._file, sources.parsed.warnings)

    def add(self, section: str, key: str, value: Value, origin: str) -> None:
        """Add a key of the configuration."""
        self.lines.append(ConfigLine(section, key, value, origin))

    def warn(self, setting: Setting | None, text: str) -> None:
        """Add a warning on a setting, once."""
        remark = Remark(self._file, setting.line if setting else 0, text)
        if remark not in self.warnings:
            self.warnings.append(remark)

    def leave_out(self, setting: Setting, reason: str) -> None:
        """Report a setting that is not carried over."""
        self.unmapped.append(Remark(self._file, setting.line, reason))

    def add_warnings(self, file: str, warned: Iterable[Warned]) -> None:
        """Add the warnings on the lines of a file."""
        self.warnings += (Remark(file, line, text) for line, text in warned)

    def origin(self, name: str, setting: Setting | None) -> str:
        """Return the origin of a value: file, line, option and value."""
        if setting is None:
            return f"{name} is not set"
        shown = f'="{setting.value}"' if len(setting.value) <= MAX_SHOWN_LENGTH else ""
        return f"{self.sources.conf.path.name} line {setting.line}: {name}{shown}"

    def number(self, name: str, default: int) -> tuple[Setting | None, int]:
        """Return the setting and value of a number, with warnings for what is malformed."""
        setting = self.options.get(name)
        if setting is None:
            return None, default
        number, faults = parse_number(setting.value, default)
        for fault in faults:
            self.warn(setting, f"{name}: {fault}")
        return setting, number

    def ports(self, name: str) -> tuple[str, list[PortRange]]:
        """Return the origin and the ranges of a list of ports; warn of faults."""
        setting = self.options.get(name)
        if setting is None:
            return f"{name} is not set", []
        ports, faults = parse_ports(setting.value)
        for fault in faults:
            self.warn(setting, f"{name}: {fault}")
        return self.origin(name, setting), ports
