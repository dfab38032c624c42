"""watch during scans: sources on their way, fresh blocks, and a flood."""

import json
import threading
import time
from ipaddress import ip_address

import pytest

from support.box import environment
from support.frames import tcp_frame
from support.lab import ATTACKER, BYSTANDER, SENTRYFWD, UNLISTED, VICTIM, Lab, Sentry
from support.screen import Screen
from support.waiting import wait_for

pytestmark = pytest.mark.netns

FLOOD_S = 5.0


def watch(lab: Lab, daemon: Sentry) -> Screen:
    command = [SENTRYFWD.with_name("sentryfw"), "-c", daemon.config, "watch"]
    return Screen(lab.victim, command, environment())


def test_a_source_on_its_way_becomes_a_fresh_block(lab: Lab, daemon: Sentry) -> None:
    with watch(lab, daemon) as screen:
        screen.wait("NEAR THE TRIGGER (0)")
        for family in (4, 6):
            lab.probe(ATTACKER[family], *UNLISTED[:2])
        lab.probe(BYSTANDER[4], UNLISTED[0])
        screen.wait("NEAR THE TRIGGER (3)")
        assert screen.shows(f"{ATTACKER[4]:<23}   67%    2      2 ")
        assert screen.shows(f"{'2001:2:0:1::/64':<23}   67%    2      2 ")
        assert screen.shows(f"{BYSTANDER[4]:<23}   33%    1      1 ")
        lab.probe(ATTACKER[4], UNLISTED[2])
        screen.wait(f"{ATTACKER[4]:<23}  59m5")
        assert screen.shows("0  portscan: syn, 3 targets")
        screen.wait("NEAR THE TRIGGER (2)")
        lab.probe(ATTACKER[4], *UNLISTED)
        screen.wait("3  portscan: syn, 3 targets")
        screen.type("q")
        assert screen.end() == 0


@pytest.mark.serial
def test_it_goes_on_in_a_flood_and_keys_are_answered(lab: Lab, daemon: Sentry) -> None:
    """The flood is as fast as this machine can forge; the printed figures show its rate."""
    sources = (f"198.{24 + (n >> 16)}.{n >> 8 & 0xFF}.{n & 0xFF}" for n in range(60_000))
    frames = [tcp_frame(lab.ether, s, VICTIM[4], 40000, 7001) for s in sources]
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            lab.wire.send(*frames[:20_000])
            lab.wire.send(*frames[20_000:])

    lab.probe(ATTACKER[4], *UNLISTED[:2])
    with watch(lab, daemon) as screen:
        screen.wait(ATTACKER[4])
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            looks = len({frame[0] for frame in screen.frames()})
            time.sleep(FLOOD_S)  # what is measured
            looks = len({frame[0] for frame in screen.frames()}) - looks
            assert screen.shows(ATTACKER[4])  # not pushed out by those with one probe
            typed = time.monotonic()
            screen.type("j")
            wait_for(lambda: screen.shows("> "), "a key is answered", 2)
            answered = time.monotonic() - typed
            screen.type("q")
            code = screen.end()
        finally:
            stop.set()
            thread.join()
    peak = max(_peak(frame) for frame in screen.frames())
    print(json.dumps({"looks": looks, "key_s": round(answered, 3), "probes_per_s": peak}))
    assert code == 0
    assert looks >= FLOOD_S / 2
    assert answered < 1.0
    assert peak > 5_000


def _peak(frame: list[str]) -> int:
    line = next((text for text in frame if text.startswith("minute ")), "peak 0/s")
    return int(line.partition("peak ")[2].partition("/s")[0].replace(",", ""))


def test_the_request_for_sources_is_bounded(lab: Lab, daemon: Sentry) -> None:
    from sentryfw.control.client import ask_stream  # noqa: PLC0415
    from sentryfw.errors import SentryError  # noqa: PLC0415

    lab.flood(500, 7001)
    wait_for(lambda: daemon.status()["tracked_sources"] >= 500, "half-seen sources")
    path = daemon.settings.paths.control
    found = list(ask_stream(path, {"do": "sources", "top": 7}))
    assert len(found) == 7
    assert all(ip_address(item["address"]) for item in found)
    with pytest.raises(SentryError, match="from 1 to 100"):
        list(ask_stream(path, {"do": "sources", "top": 101}))
