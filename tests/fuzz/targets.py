"""What reads hostile bytes, each as a function of bytes that says by AssertionError what must
hold; any exception is a finding. tests/fuzz/run.py drives them with atheris, test_corpus.py runs
what was found, and Hypothesis, through them.
"""

import io
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from sentryfw import allowlist, config
from sentryfw.control_server import READ, ControlServer, Peer
from sentryfw.decoy import wire
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import ACCEPT, DROP, Meta
from sentryfw.engine.packet import decode
from sentryfw.errors import ConfigError
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.monitor import Monitor, _Pending
from sentryfw.netfilter.nfqueue import Reader
from sentryfw.portsentry.convert import convert
from sentryfw.portsentry.files import File, Sources
from sentryfw.portsentry.parse import parse_hosts, parse_settings
from sentryfw.portsentry.render import render
from sentryfw.record import pcapng
from sentryfw.replay.capture import CaptureError, Stream, read_stream
from sentryfw.replay.link import LINKS
from sentryfw.respond.dns import BadAnswer, answer_name

SETTINGS: Final = config.parse(b"[block]\nper_minute = 5", "here")
PROTECTED: Final = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
SEPARATOR: Final = b"\0\0"
MAX_RECORDS: Final = 5000


def engine(data: bytes) -> None:
    """A sequence of packets: one byte says how long the next is, one what the kernel knows."""
    made = Engine(SETTINGS.horizons(), SETTINGS.policy(PROTECTED), max_sources=8)
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
    """One packet's headers: fields, or a reason."""
    decode(data)


def netlink(data: bytes) -> None:
    """Messages, attributes, elements, counters, comments; only MalformedMessage is raised."""
    try:
        for message in nl.messages(data):
            for read in (_elements, _attributes, nl.error_of, nl.count_elements):
                try:
                    read(message)
                except nl.MalformedMessage:
                    continue
    except nl.MalformedMessage:
        return


def _elements(message: nl.Message) -> None:
    for element in nl.elements_of(message):
        assert element.timeout >= 0
        assert element.expires >= 0


def _attributes(message: nl.Message) -> None:
    for payload in nl.attributes(message.body[4:]).values():
        nl.comment_of(payload)
        assert "\0" not in nl.name_of(payload)[-1:]
        nl.counter_of(payload)


def notifications(data: bytes) -> None:
    """What nf_tables tells of foreign changes."""
    monitor: Any = Monitor.__new__(Monitor)
    monitor._pending = _Pending()
    try:
        for change in monitor.changes(data):
            assert change.name.isprintable() if hasattr(change, "name") else True
    except nl.MalformedMessage:
        return


def queue(data: bytes) -> None:
    """What the kernel hands over of the queue: each packet is judged once and has its verdict."""
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
    """TOML: a configuration, or every fault, each a line that harms no terminal."""
    try:
        settings = config.parse(data, "here")
    except ConfigError as error:
        assert error.faults  # noqa: PT017
        return
    settings.horizons()
    settings.policy(())


def allowed(data: bytes) -> None:
    """A list that people write: networks and warnings, never an exception."""
    found = allowlist.parse(data)
    assert len(found.warnings) <= allowlist.MAX_WARNINGS
    for entry in found.entries:
        assert entry.line >= 1
        ip_network(entry.network)


def portsentry(data: bytes) -> None:
    """The files of an old PortSentry; what is made of them is a configuration that is taken."""
    parts = (data.split(SEPARATOR, 3) + [b""] * 3)[:4]
    files = [File(Path(f"/etc/portsentry/{n}"), part) for n, part in enumerate(parts)]
    sources = Sources(files[0], parse_settings(parts[0]), files[1], [files[2]], [], [files[3]])
    imported = convert(sources)
    config.parse(render(imported).encode(), "imported")
    parse_hosts(data)


def capture(data: bytes) -> None:
    """pcap and pcapng, and the link layer of each packet."""
    try:
        for count, (at, link, buffer, start, end) in enumerate(
            read_stream(Stream(io.BytesIO(data)))
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
    """A line on the control socket: an answer in JSON; who may only read changes nothing."""
    asked: list[Any] = []
    server: Any = ControlServer.__new__(ControlServer)
    server._answer = lambda request: asked.append(request) or {}
    for may_change in (True, False):
        asked.clear()
        peer: Any = SimpleNamespace(may_change=may_change, may_read=True)
        reply = ControlServer._reply(server, data, peer)
        json.dumps(reply)
        assert "error" in reply or asked
        for request in asked:
            assert may_change or request["do"] in READ
    assert not Peer(65534, frozenset({65534})).may_change


def dns(data: bytes) -> None:
    """A resolver's answer: a name of letters, digits and dashes, or none."""
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
    """What the decoy's process, which talks to attackers, tells the daemon."""
    for message in (data, data.ljust(wire.MESSAGE.size, b"\0")[: wire.MESSAGE.size]):
        visit = wire.decode(message, [(1, 1024)])
        if visit is not None:
            assert 1 <= visit.port <= 1024
            assert len(visit.source) in (4, 16)
            assert wire.shown(visit.payload).isprintable()


def packets(data: bytes) -> None:
    """Our own captures, cut off by a power failure."""
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
