"""Labels: names of networks, out of MISP's warning lists and plain lists."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.types import IPAddress, IPNetwork, parse_network
from sentryfw.errors import SentryError
from sentryfw.host.address_list import lines
from sentryfw.origin.model import name
from sentryfw.text import counted

MAX_FILE_BYTES: Final = 16 << 20
MAX_NETWORKS: Final = 100_000
"""Networks of all files."""
MAX_LABELS: Final = 8
"""Labels of one source."""
_COMMENTS: Final = ("#", ";")


class Labelled(NamedTuple):
    """A network and its name."""

    network: IPNetwork
    label: str


class LabelList(NamedTuple):
    """The contents of a file."""

    entries: list[Labelled]
    ignored: int
    """Entries that are not networks."""


class LabelTable:
    """The labels of all files. A file with a fault costs its own labels only."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.faults: list[str] = []
        self._left = MAX_NETWORKS
        self._labels: dict[tuple[int, int], dict[int, list[str]]] = {}
        """Labels by family and prefix length, then by the network's first bits."""
        for path in files:
            try:
                self._add(path, read(path))
            except SentryError as error:
                self.faults.append(str(error))

    def of(self, address: IPAddress) -> tuple[str, ...]:
        """Return the labels of an address, those of its smallest network first."""
        value, bits = int(address), address.max_prefixlen
        found: list[str] = []
        for family, length in sorted(self._labels, reverse=True):
            if family == address.version:
                found += self._labels[family, length].get(value >> (bits - length), ())
        return tuple(dict.fromkeys(found))[:MAX_LABELS]

    def _add(self, path: Path, listed: LabelList) -> None:
        if listed.ignored:
            many = counted(listed.ignored, "entry").replace("entrys", "entries")
            self.faults.append(f"{path}: {many} without a network: ignored")
        if len(listed.entries) > self._left:
            self.faults.append(
                f"{path}: [labels] files have more than {MAX_NETWORKS:,} networks: the rest is"
                " ignored"
            )
        for network, label in listed.entries[: self._left]:
            place = self._labels.setdefault((network.version, network.prefixlen), {})
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            place.setdefault(bits, []).append(label)
        self._left = max(0, self._left - len(listed.entries))


def read(path: Path) -> LabelList:
    """Read a file: MISP's JSON if it begins with a brace, else a plain list. Raise SentryError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise SentryError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB: not read")
    try:
        found = _misp(data) if data.lstrip()[:1] == b"{" else _plain(data, path.stem)
    except (ValueError, RecursionError) as error:
        reason = name(str(error)) or type(error).__name__
        raise SentryError(
            f"{path}: neither a MISP warning list nor a plain list: {reason}"
        ) from None
    return _parsed(found)


def _misp(data: bytes) -> Iterator[tuple[str, str]]:
    """Return networks and names of a warning list. Raise ValueError."""
    given = json.loads(data)
    if given.get("type", "cidr") != "cidr":
        raise ValueError(f'its type is {name(given["type"])}, not "cidr"')
    label, entries = name(given.get("name")), given.get("list")
    if not label or not isinstance(entries, list):
        raise ValueError('no "name" or no "list"')
    return ((entry if isinstance(entry, str) else "", label) for entry in entries)


def _plain(data: bytes, title: str) -> Iterator[tuple[str, str]]:
    """Yield networks and names of a plain list; a line without a name has that of the file."""
    for line in lines(data):
        for sign in _COMMENTS:
            line = line.partition(sign)[0]  # noqa: PLW2901 - cut at each of them
        words = line.split(maxsplit=1)
        if words:
            yield words[0], name(words[1] if len(words) > 1 else "") or name(title)


def _parsed(found: Iterator[tuple[str, str]]) -> LabelList:
    listed, ignored = [], 0
    for text, label in found:
        try:
            network = parse_network(text)
        except ValueError:
            network = ip_network("0.0.0.0/0")
        if network.prefixlen:
            listed.append(Labelled(network, label))
        else:  # no network, or all addresses
            ignored += 1
    return LabelList(listed, ignored)
