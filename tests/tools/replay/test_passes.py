"""A pass: which packets it takes, and what it counts the others as."""

from pathlib import Path

from sentryfw.tools.replay.capture import open_capture
from sentryfw.tools.replay.guess import Guess
from support.captures import THEM, US, pcap, tcp


def test_each_packet_is_taken_or_counted(tmp_path: Path) -> None:
    whole = tcp(THEM, US, 22)
    frames = [whole, bytes(12) + b"\x08\x06" + bytes(28), whole[:40], whole]
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap([(number, frame) for number, frame in enumerate(frames)], linktype=1))
    guess = Guess()
    with open_capture(path) as records:
        guess.read(records)
    assert guess.fates == {"not IP": 1, "cut short": 1}
    assert [len(address) for address in guess.addresses()] == [4]
