"""PortSentry's modes, ports and banner -> [watch] and [decoy]. Pure."""

from typing import Final, Literal

from sentryfw.config.types import ports_text
from sentryfw.tools.portsentry.files import PortSentryFiles
from sentryfw.tools.portsentry.imported import Draft, PortRange, Protocol, Remark
from sentryfw.tools.portsentry.parse import MODES, Setting, Settings, parse_settings

Mode = Literal["off", "classic", "stealth", "advanced"]
MODE_NAMES: Final[dict[str, Mode]] = {
    "": "off", "off": "off", "none": "off",
    "tcp": "classic", "udp": "classic", "connect": "classic",
    "stcp": "stealth", "sudp": "stealth", "stealth": "stealth",
    "atcp": "advanced", "audp": "advanced",
}  # fmt: skip
"""The flags of 1.x and the switches of 2.x."""
FLAGS: Final = {"classic": "-{}", "stealth": "-s{}", "advanced": "-a{}"}
DEFAULT_ADVANCED_PORTS_LIMIT: Final = 1024
"""The default of ADVANCED_PORTS_TCP and ADVANCED_PORTS_UDP in 1.x."""


def mode_of(word: str) -> Mode | None:
    """Return the mode that a word or a flag means; None for other words."""
    return MODE_NAMES.get(word.strip().lstrip("-").lower())


def find_modes(
    sources: PortSentryFiles, tcp: str | None, udp: str | None
) -> tuple[tuple[Mode, Mode], list[Remark]]:
    """Return the modes for TCP and UDP: of the command line, else of /etc/default/portsentry, else
    the defaults; with remarks on assumptions."""
    remarks: list[Remark] = []
    parsed = Settings({}, [], 1)
    if sources.modes is not None:
        parsed = parse_settings(sources.modes.data, MODES)
        remarks += (Remark(str(sources.modes.path), line, text) for line, text in parsed.warnings)
    found: list[Mode] = []
    for protocol, given in (("tcp", tcp), ("udp", udp)):
        setting = parsed.options.get(f"{protocol.upper()}_MODE")
        place = str(sources.modes.path) if sources.modes else ""
        if given is not None:
            word = given
        elif setting is not None:
            word = setting.value
        elif sources.modes is not None:
            word = "off"
        else:
            word = protocol if sources.parsed.generation == 1 else "stealth"
            text = f"no file sets the {protocol} mode of PortSentry: {word} is assumed"
            remarks.append(Remark(place, 0, f"{text}; --{protocol}-mode overrides"))
        mode = mode_of(word)
        if mode is None:
            line = setting.line if setting else 0
            remarks.append(Remark(place, line, f"{word[:20]!r} is not a mode: read as {protocol}"))
            mode = "classic"
        found.append(mode)
    return (found[0], found[1]), remarks


def add_watch(draft: Draft, tcp: Mode, udp: Mode) -> None:
    """Add [watch] and [decoy]."""
    if tcp == udp == "advanced":
        origin = "-atcp and -audp: every port without a service"
        draft.add("watch", "mode", "unlisted", origin)
        for protocol in ("tcp", "udp"):
            _add_advanced(draft, protocol)
    else:
        flags = " and ".join(_flag(mode, name) for mode, name in ((tcp, "tcp"), (udp, "udp")))
        origin = f'{flags}: chosen ports; "unlisted" would watch all without a service'
        draft.add("watch", "mode", "traps", origin)
        _add_traps(draft, "tcp", tcp)
        _add_traps(draft, "udp", udp)
    for protocol, mode in (("tcp", tcp), ("udp", udp)):
        if mode == "classic":
            origin, ports = draft.ports(f"{protocol.upper()}_PORTS")
            draft.add("decoy", protocol, _ports_value(ports), origin)
    _add_banner(draft, connects="classic" in {tcp, udp})


def _add_advanced(draft: Draft, protocol: Protocol) -> None:
    setting, number = _upper(draft, protocol)
    origin = draft.origin(f"ADVANCED_PORTS_{protocol.upper()}", setting)
    draft.add("watch", f"upper_{protocol}", max(1, number), origin)
    origin, excluded = draft.ports(f"ADVANCED_EXCLUDE_{protocol.upper()}")
    draft.add("watch", f"listed_{protocol}", _ports_value(excluded), origin)


def _add_traps(draft: Draft, protocol: Protocol, mode: Mode) -> None:
    if mode == "stealth":
        origin, ports = draft.ports(f"{protocol.upper()}_PORTS")
    elif mode == "advanced":
        setting, number = _upper(draft, protocol)
        name, excluded = draft.ports(f"ADVANCED_EXCLUDE_{protocol.upper()}")
        ports = _without([(0, number - 1)] if number else [], excluded)
        origin = draft.origin(f"ADVANCED_PORTS_{protocol.upper()}", setting)
        origin = f"{origin}\n{name}"
    else:
        return
    draft.add("watch", f"trap_{protocol}", _ports_value(ports), origin)


def _upper(draft: Draft, protocol: Protocol) -> tuple[Setting | None, int]:
    """Return the setting and value of the first port that the advanced mode does not watch."""
    name = f"ADVANCED_PORTS_{protocol.upper()}"
    setting, number = draft.number(name, DEFAULT_ADVANCED_PORTS_LIMIT)
    if not 0 <= number <= 65536:
        draft.warn(
            setting, f"{name}: {number} is out of range: read as {DEFAULT_ADVANCED_PORTS_LIMIT}"
        )
        number = DEFAULT_ADVANCED_PORTS_LIMIT
    return setting, number


def _add_banner(draft: Draft, *, connects: bool) -> None:
    setting = draft.options.get("PORT_BANNER")
    if setting is None or not setting.value:
        return
    if not connects:
        reason = "PORT_BANNER: the imported modes do not connect; -tcp and -udp do"
        draft.leave_out(setting, reason)
        return
    draft.add("decoy", "banner", setting.value, draft.origin("PORT_BANNER", setting))


def _flag(mode: Mode, protocol: str) -> str:
    return FLAGS[mode].format(protocol) if mode in FLAGS else f"no {protocol}"


def _ports_value(ports: list[PortRange]) -> list[str | int]:
    merged = dict.fromkeys(ports)
    return [first if first == last else ports_text((first, last)) for first, last in merged]


def _without(ranges: list[PortRange], excluded: list[PortRange]) -> list[PortRange]:
    """Return the ranges without the excluded ports."""
    for low, high in excluded:
        cut = []
        for first, last in ranges:
            pieces = ((first, min(last, low - 1)), (max(first, high + 1), last))
            cut += [piece for piece in pieces if piece[0] <= piece[1]]
        ranges = cut
    return ranges
