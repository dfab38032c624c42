"""Functions that pass hostile bytes to our parsers.

An AssertionError, or any other exception, is a finding. tests/fuzz/run.py drives them with atheris;
test_corpus.py runs earlier findings and Hypothesis' examples through them.
"""

import io
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from sentryfw import config
from sentryfw.control.server import CARRIED, READ_ONLY, ControlServer, Peer
from sentryfw.decoy import wire
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import ACCEPT, DROP, Meta
from sentryfw.engine.networks import NetworkIndex
from sentryfw.engine.packet import decode
from sentryfw.errors import ConfigError
from sentryfw.host import address_list
from sentryfw.host.dns_message import BadAnswer
from sentryfw.netfilter.monitor import TransactionReader
from sentryfw.netfilter.verdicts import Reader
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.record import pcapng
from sentryfw.respond.dns import answer_name
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import File, PortSentryFiles
from sentryfw.tools.portsentry.parse import parse_hosts, parse_settings
from sentryfw.tools.portsentry.render import render
from sentryfw.tools.replay.capture import CaptureError, Records, Stream
from sentryfw.tools.replay.linktypes import LINKS
from support.captures import each

SETTINGS: Final = config.parse(b"[block]\nper_minute = 5", "here")
PROTECTED: Final = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
SEPARATOR: Final = b"\0\0"
LINK_UID: Final = 990
MAX_RECORDS: Final = 5000


def engine(data: bytes) -> None:
    """Judge a sequence of packets, each after a byte of its length and a byte of its marks."""
    made = Engine(SETTINGS.horizons(), SETTINGS.policy(NetworkIndex(PROTECTED)), max_sources=8)
    for count, (knowledge, payload) in enumerate(_packets(data)):
        meta = Meta(
            unlisted=bool(knowledge & 1), partner=bool(knowledge & 2), half_open=bool(knowledge & 4)
        )
        now = count * (knowledge >> 3) * 0.5
        outcome = made.handle(payload, meta, now)
        assert outcome.verdict in (ACCEPT, DROP)
        for block in outcome.blocks:
            assert len(block.source) in (4, 8, 16)
            assert block.timeout > 0
            if len(block.source) == 4:
                assert block.source[0] != 10, "never blocked"
        if knowledge & 0x80:
            made.tick(now)
        assert len(made.tracker) <= 8 + 4096


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 2 <= len(data):
        size, knowledge = data[offset], data[offset + 1]
        yield knowledge, data[offset + 2 : offset + 2 + size]
        offset += 2 + size


def packet(data: bytes) -> None:
    """Decode the headers of one packet: fields, or a reason."""
    decode(data)


def netlink(data: bytes) -> None:
    """Read messages, attributes, elements, counters, comments; only MalformedMessage is raised."""
    try:
        for message in nlmsg.messages(data):
            for read in (_elements, _attributes, nlmsg.error_of, set_elements.count_elements):
                try:
                    read(message)
                except nlmsg.MalformedMessage:
                    continue
    except nlmsg.MalformedMessage:
        return


def _elements(message: nlmsg.Message) -> None:
    for element in set_elements.elements_of(message):
        assert element.timeout >= 0
        assert element.expires >= 0


def _attributes(message: nlmsg.Message) -> None:
    for payload in nlmsg.attributes(message.body[4:]).values():
        nl.comment_of(payload)
        assert "\0" not in nlmsg.name_of(payload)[-1:]
        nl.counter_of(payload)


def notifications(data: bytes) -> None:
    """Read notifications of nf_tables; the process name is printable."""
    reader = TransactionReader()
    try:
        for change in reader.read(data):
            assert change.process.isprintable()
    except nlmsg.MalformedMessage:
        return


def queue(data: bytes) -> None:
    """Read messages of the queue: each packet is judged once and gets its verdict."""
    messages = data.split(SEPARATOR * 4)
    judged: list[int] = []
    sent: list[bytes] = []
    reader = Reader(
        lambda _: messages.pop(0) if messages else _raise(BlockingIOError()),
        lambda verdicts: sent.append(verdicts) or len(verdicts),
        lambda packet: judged.append(packet.number),
        queue=0,
    )
    reader.receive(len(messages) + 1)
    assert (reader.received, reader.failures) == (len(judged), 0)
    assert bool(sent) == bool(judged)


def _raise(error: OSError) -> bytes:
    raise error


def configuration(data: bytes) -> None:
    """Parse TOML: a configuration, or its faults."""
    try:
        settings = config.parse(data, "here")
    except ConfigError as error:
        assert error.faults  # noqa: PT017
        return
    settings.horizons()
    settings.policy()


def allowed(data: bytes) -> None:
    """Parse an allowlist: networks and warnings, never an exception."""
    found = address_list.parse(data)
    assert len(found.warnings) <= address_list.MAX_WARNINGS
    for entry in found.entries:
        assert entry.line >= 1
        ip_network(entry.network)


def portsentry(data: bytes) -> None:
    """Convert the files of an old PortSentry to a configuration that is valid."""
    parts = (data.split(SEPARATOR, 3) + [b""] * 3)[:4]
    files = [File(Path(f"/etc/portsentry/{n}"), part) for n, part in enumerate(parts)]
    sources = PortSentryFiles(
        files[0], parse_settings(parts[0]), files[1], [files[2]], [], [files[3]]
    )
    imported = convert(sources)
    config.parse(render(imported).encode(), "imported")
    parse_hosts(data)


def capture(data: bytes) -> None:
    """Read pcap and pcapng, and the link layer of each packet."""
    try:
        for count, (at, link, buffer, start, end) in enumerate(
            each(Records(Stream(io.BytesIO(data))))
        ):
            assert at == at  # noqa: PLR0124 - not NaN
            assert 0 <= start <= end <= len(buffer)
            found = LINKS[link](buffer, start, end) if link in LINKS else -1
            assert found == -1 or start <= found <= end
            if count > MAX_RECORDS:
                return
    except CaptureError as error:
        assert 0 <= error.byte <= len(data)  # noqa: PT017


def control(data: bytes) -> None:
    """Answer a line on the control socket in JSON; a peer that may only read changes nothing."""
    asked: list[Any] = []
    server: Any = ControlServer.__new__(ControlServer)
    server._answer = lambda request: asked.append(request) or {}
    server._link = LINK_UID
    for may_change, uid in ((True, 0), (False, 1000), (False, LINK_UID)):
        asked.clear()
        peer: Any = SimpleNamespace(may_change=may_change, may_read=True, uid=uid)
        reply = ControlServer._reply(server, data, peer)
        json.dumps(reply)
        assert "error" in reply or asked
        open_to_it = READ_ONLY | CARRIED if uid == LINK_UID else READ_ONLY
        for request in asked:
            assert may_change or request["do"] in open_to_it
    assert not Peer(65534, frozenset({65534})).may_change


def dns(data: bytes) -> None:
    """Read a resolver's answer: a printable ASCII name, or BadAnswer."""
    if len(data) < 2:
        return
    try:
        name = answer_name(data, int.from_bytes(data[:2]))
    except BadAnswer:
        return
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= 255


def decoy(data: bytes) -> None:
    """Read a message of the decoy's process, which talks to attackers."""
    for message in (data, data.ljust(wire.MESSAGE.size, b"\0")[: wire.MESSAGE.size]):
        visit = wire.decode(message, [(1, 1024)])
        if visit is not None:
            assert 1 <= visit.port <= 1024
            assert len(visit.source) in (4, 16)
            assert wire.shown(visit.payload).isprintable()


def packets(data: bytes) -> None:
    """Join captures of ours that a power failure cut off."""
    joined = pcapng.join([data, data])
    assert len(joined) <= 2 * len(data)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "engine": engine,
    "packet": packet,
    "netlink": netlink,
    "notifications": notifications,
    "queue": queue,
    "configuration": configuration,
    "allowlist": allowed,
    "portsentry": portsentry,
    "capture": capture,
    "control": control,
    "dns": dns,
    "decoy": decoy,
    "packets": packets,
}
