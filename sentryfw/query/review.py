"""Remarks on valid configurations that do not do what their author meant: for `check`.

Faults are what the daemon refuses when it starts; the others are warnings. Files are read as the
daemon's user, where there is one.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.model import Config, Detect
from sentryfw.config.toml_text import to_text
from sentryfw.config.types import MAX_PORT, PortRange, is_loopback, matches
from sentryfw.config.zone import Inside
from sentryfw.engine.track import Horizons
from sentryfw.errors import SentryError
from sentryfw.host import address_list
from sentryfw.host.account import acting_as_owner
from sentryfw.netlink.links import links
from sentryfw.netlink.sock_diag import TCP, UDP, receivers

MAX_LINES: Final = 10
"""Lines of a list file that are named."""
_NAMES: Final = {TCP: "tcp", UDP: "udp"}

ReadCredentials = Callable[[Path], object]


class ConfigRemark(NamedTuple):
    """A value that an operator should correct, or know of."""

    key: str
    text: str
    is_fault: bool = False
    """Whether the daemon refuses the configuration for it."""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def review(config: Config, read_credentials: ReadCredentials) -> list[ConfigRemark]:
    """Return the remarks on a configuration that is valid by itself.

    `read_credentials` raises SentryError where the mailer could not use the file.
    """
    found = [
        *_files(config),
        *_networks(config),
        *_traps(config),
        *_windows(config),
        *_zones(config),
    ]
    return [
        *found,
        *_mail(config, read_credentials),
        *_respond(config),
        *_decoys(config),
        *_interfaces(config),
    ]


def _zones(config: Config) -> Iterator[ConfigRemark]:
    """Show the zone that [inside] is, and zones that forwarding makes wrong."""
    inside = config.watch.inside
    if inside:
        zone = config.inside.zone(inside).model_dump(mode="json", exclude_defaults=True)
        text = ", ".join(to_text({key: value}).strip() for key, value in zone.items())
        text = " ".join(text.split()).replace("[ ", "[").replace(", ]", "]")
        yield ConfigRemark("watch.inside", f"is a zone; another way to write it: [[zone]] {text}")
    if config.watch.forward:
        for one in config.zone:
            if not one.inside:
                yield ConfigRemark(
                    f"zone {one.name}",
                    "with watch.forward, what its hosts open through this one is judged; if it"
                    " leads to hosts of yours, write inside = true",
                )


def _files(config: Config) -> Iterator[ConfigRemark]:
    """Check the lists of [never_block] files."""
    key = "never_block.files"
    for path in config.never_block.files:
        try:
            with acting_as_owner(config.paths.state):
                data = path.read_bytes()
        except OSError as error:
            yield ConfigRemark(key, f"{path}: {error.strerror}: the daemon does not start", True)
            continue
        warnings = address_list.parse(data).warnings
        for line, text in warnings[:MAX_LINES]:
            yield ConfigRemark(key, f"{path}:{line}: {text}")
        if len(warnings) > MAX_LINES:
            yield ConfigRemark(key, f"{path}: {len(warnings) - MAX_LINES} more lines with a fault")


def _networks(config: Config) -> Iterator[ConfigRemark]:
    for network in config.never_block.addresses:
        if network.prefixlen == 0:
            yield ConfigRemark(
                "never_block.addresses",
                f"{network} is every IPv{network.version} address: nothing is blocked; to only"
                ' watch, set detect.mode = "observe"',
            )


def _traps(config: Config) -> Iterator[ConfigRemark]:
    watch, decoy = config.watch, config.decoy
    if decoy.hold and not decoy.tcp:
        yield ConfigRemark("decoy.hold", "has no effect: there is no decoy in decoy.tcp")
    if watch.mode != "traps" or watch.trap_tcp or watch.trap_udp or decoy.tcp or decoy.udp:
        return
    yield ConfigRemark(
        "watch.mode", '"traps" without trap_tcp, trap_udp or decoys: no port is watched'
    )


def _windows(config: Config) -> Iterator[ConfigRemark]:
    sections: dict[str, Detect | Inside | Horizons] = {
        "detect": config.detect, "inside": config.inside,
        **{f"zone {zone.name}": config.rules(zone).horizons for zone in config.zone},
    }  # fmt: skip
    for name, section in sections.items():
        if section.slow_window < section.window:
            yield ConfigRemark(
                f"{name}.slow_window",
                f"is shorter than {name}.window: slow scans are not found; write a longer one",
            )
        elif section.slow_trigger < section.trigger:
            yield ConfigRemark(
                f"{name}.slow_trigger",
                f"is less than {name}.trigger, which then never decides; write more",
            )


def _mail(config: Config, read_credentials: ReadCredentials) -> Iterator[ConfigRemark]:
    mail = config.respond.mail
    if mail.credentials is not None:
        try:
            with acting_as_owner(config.paths.state):
                read_credentials(mail.credentials)
        except SentryError as error:
            yield ConfigRemark("respond.mail.credentials", f"{error}: no mail is sent")
    elif mail.to and not is_loopback(mail.host):
        yield ConfigRemark(
            "respond.mail.credentials",
            f"none: {mail.host} has to accept mail of this host without a password",
        )


def _respond(config: Config) -> Iterator[ConfigRemark]:
    """Check the files that reactions read and run."""
    respond, watched = config.respond, config.metrics.textfile
    argv = respond.command.argv
    if argv and not os.access(argv[0], os.X_OK):
        yield ConfigRemark("respond.command.argv", f"{argv[0]}: no such program: nothing is run")
    files = {
        "respond.mail.ca": respond.mail.ca,
        "respond.syslog.ca": respond.syslog.ca,
        "respond.syslog.certificate": respond.syslog.certificate,
        "respond.syslog.key": respond.syslog.key,
    }
    for number, webhook in enumerate(respond.webhook):
        files[f"respond.webhook.{number}.credentials"] = webhook.credentials
        files[f"respond.webhook.{number}.ca"] = webhook.ca
    for key, path in files.items():
        if path is not None and not path.exists():
            yield ConfigRemark(key, f"{path}: no such file")
    if watched is not None and not watched.parent.is_dir():
        yield ConfigRemark("metrics.textfile", f"{watched.parent}: no such directory")


def _decoys(config: Config) -> Iterator[ConfigRemark]:
    """Check for decoys on ports that a service of this host, or a list, has."""
    watch, decoy = config.watch, config.decoy
    served = _served(decoy.port)
    for name, ranges, listed in (
        ("tcp", decoy.tcp, watch.listed_tcp), ("udp", decoy.udp, watch.listed_udp),
    ):  # fmt: skip
        for key, ports in (("a service", served[name]), (f"watch.listed_{name}", listed)):
            both = _common(ranges, ports)
            if both:
                yield ConfigRemark(
                    f"decoy.{name}",
                    f"{_named(both)}: {key} has the same, so no decoy answers there",
                )


def _served(own: int) -> dict[str, list[PortRange]]:
    """Return the ports at which a service receives, by protocol, without the decoy's own."""
    try:
        found = receivers()
    except OSError:  # a kernel without CONFIG_INET_DIAG
        found = []
    ports = {(_NAMES[item.protocol], item.port) for item in found if not _is_loopback(item.address)}
    return {
        name: [(port, port) for protocol, port in sorted(ports) if protocol == name and port != own]
        for name in _NAMES.values()
    }


def _is_loopback(address: bytes) -> bool:
    return ip_address(address).is_loopback


def _common(ranges: Iterable[PortRange], others: Iterable[PortRange]) -> list[int]:
    """Return the ports that are in both, without port 0."""
    chosen = {port for first, last in ranges for port in range(max(first, 1), last + 1)}
    return sorted(
        {port for first, last in others for port in range(first, min(last, MAX_PORT) + 1)} & chosen
    )


def _named(ports: list[int]) -> str:
    more = len(ports) - MAX_LINES
    text = ", ".join(map(str, ports[:MAX_LINES])) + (f" and {more} more" if more > 0 else "")
    return f"port {text}" if len(ports) == 1 else f"ports {text}"


def _interfaces(config: Config) -> Iterator[ConfigRemark]:
    names = [link.name for link in links()]
    named = {
        "watch.interfaces": config.watch.interfaces,
        "watch.inside": config.watch.inside,
        "never_block.interfaces": config.never_block.interfaces,
        **{f"zone {zone.name}": zone.interfaces for zone in config.zone},
    }
    for key, patterns in named.items():
        for pattern in patterns:
            if not any(matches(name, [pattern]) for name in names):
                yield ConfigRemark(key, f"{pattern}: no such interface at present")
