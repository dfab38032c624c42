"""bench/c/send.c: where it refuses to send, and what it sends where it may."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.frames import TARGET, syn
from bench.lab import WIRE, Lab
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from sentryfw.netlink.socket import SO_RCVBUFFORCE
from sentryfw.tools.drill.namespace import Namespace

pytestmark = pytest.mark.netns

REFUSED = 3
BENCH_MAC = "02:53:46:57:42:07"
ETH_P_ALL = 3


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def test_it_refuses_the_namespace_of_its_parent(send: Path, one_frame: Path) -> None:
    done = subprocess.run(
        [send, "lo", one_frame], capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode == REFUSED
    assert "namespace of the host" in done.stderr


def test_it_refuses_a_namespace_that_its_ancestor_is_in(
    lab: Lab, send: Path, one_frame: Path
) -> None:
    """A namespace that was entered by hand may be the machine's own."""
    done = lab.attacker.run("sh", "-c", f"{send} {WIRE} {one_frame}; exit $?")
    assert done.returncode == REFUSED


@pytest.mark.parametrize(
    ("kind", "mac", "reason"),
    [
        pytest.param("veth", "02:00:00:00:00:01", "hardware address", id="another's veth"),
        pytest.param("bridge", BENCH_MAC, "not a veth", id="no veth"),
        pytest.param("absent", BENCH_MAC, "no such interface", id="no interface"),
    ],
)
def test_it_refuses_an_interface_that_is_not_the_benchs(
    namespace: Namespace, send: Path, one_frame: Path, kind: str, mac: str, reason: str
) -> None:
    if kind != "absent":
        peer = ("peer", "name", "other") if kind == "veth" else ()
        namespace.ip("link", "add", "x0", "address", mac, "type", kind, *peer)
        namespace.ip("link", "set", "x0", "up")
    done = namespace.run(send, "x0", one_frame)
    assert done.returncode == REFUSED
    assert reason in done.stderr


def test_a_refusal_leaves_the_wire_silent(
    namespace: Namespace, send: Path, one_frame: Path
) -> None:
    namespace.ip("link", "add", "x0", "type", "veth", "peer", "name", "other")
    namespace.ip("link", "set", "x0", "up")
    namespace.ip("link", "set", "other", "up")
    capture = _capture(namespace, "other")
    assert namespace.run(send, "x0", one_frame, "--count", "100").returncode == REFUSED
    assert _probes(capture) == []
    capture.close()


def test_it_sends_the_requested_number_of_frames(lab: Lab, one_frame: Path, send: Path) -> None:
    capture = _capture(lab.victim)
    assert lab.send(one_frame, "--count", 7)["sent"] == 7
    assert len(_probes(capture)) == 7
    capture.close()


def test_forged_sources_are_all_different_and_their_checksums_right(
    lab: Lab, one_frame: Path, send: Path
) -> None:
    capture = _capture(lab.victim)
    lab.send(one_frame, "--count", 500, "--spoof", 0x0C000000)
    frames = _probes(capture)
    capture.close()
    sources = {frame[26:30] for frame in frames}
    assert len(sources) == 500
    for frame in frames:
        source = int.from_bytes(frame[26:30])
        assert source >> 24 == 0x0C
        assert frame[:54] == syn(source, 7001)[:54]


def test_a_rate_is_kept(lab: Lab, one_frame: Path, send: Path) -> None:
    sent = lab.send(one_frame, "--count", 100, "--rate", 1000)
    assert sent["seconds"] >= 0.099, "faster than it was told"


def test_stamps_are_one_a_frame_and_in_order(
    lab: Lab, one_frame: Path, send: Path, tmp_path: Path
) -> None:
    stamps = tmp_path / "stamps"
    lab.send(one_frame, "--count", 20, "--rate", 2000, "--stamps", stamps)
    data = stamps.read_bytes()
    moments = [int.from_bytes(data[n : n + 8], "little") for n in range(0, len(data), 8)]
    assert len(moments) == 20
    assert moments == sorted(moments)


def test_a_file_with_a_wrong_length_is_refused(lab: Lab, send: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.frames"
    path.write_bytes(b"\xff\x00abc")
    done = lab.attacker.run(send, WIRE, path)
    assert done.returncode == 1
    assert "lies" in done.stderr


def test_no_interface_of_this_machine_carries_the_benchs_mark() -> None:
    marked = [
        name
        for name in os.listdir("/sys/class/net")  # noqa: PTH208 - names are wanted
        if Path("/sys/class/net", name, "address").read_text().startswith("02:53:46:57:42")
    ]
    assert marked == []


def _capture(namespace: Namespace, interface: str = WIRE) -> socket.socket:
    """Captures the frames that arrive at an interface."""

    def opened() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        made.bind((interface, ETH_P_ALL))
        made.settimeout(0.5)
        return made

    return namespace.call(opened)


def _probes(capture: socket.socket) -> list[bytes]:
    """SYNs to the defended host, until none comes any more."""
    found = []
    while True:
        try:
            frame = capture.recv(2048)
        except TimeoutError:
            return found
        packet = decode(frame[14:])
        if isinstance(packet, Packet) and packet.target == TARGET and packet.dport == 7001:
            found.append(frame)
