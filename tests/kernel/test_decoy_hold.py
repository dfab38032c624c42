"""Visitors of decoys that are kept: the window on the wire, bounds, blocks, reload and end."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from sentryfw.control.client import ask
from sentryfw.decoy.hold import RESET
from support.lab import ATTACKER, BYSTANDER, LISTED, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
DECOY = 23
HOLD = f'[decoy]\ntcp = [{DECOY}, 24]\ntimeout = 1\nhold = "10m"\nconnections = 3\n'
OBSERVE = '[detect]\nmode = "observe"\n'
WINDOW = 1152
RELOAD_TIMEOUT_S = 30.0
BROWSER = b"GET / HTTP/1.1\r\nHost: 198.18.0.1\r\n\r\n"


def _windows(lab: Lab) -> list[int]:
    """Return the windows in the segments of the decoy, as the attacker's end receives them."""
    found = []
    for frame in lab.wire.received():
        if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP:
            sport, flags = int.from_bytes(frame[34:36]), frame[47]
            if sport == DECOY and not flags & 0x04:  # the window of a reset has no meaning
                found.append(int.from_bytes(frame[48:50]))
    return found


def _fill(client: socket.socket) -> None:
    """Send until the other side takes no more."""
    client.settimeout(0.5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with suppress(TimeoutError):
        client.sendall(b"x" * 1_000_000)


def _is_reset(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_the_window_closes_on_the_wire_and_stays_closed(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(HOLD + OBSERVE)
    with lab.open(ATTACKER[4], DECOY) as client:
        client.sendall(b"SSH-2.0-scanner\r\n")
        wait_for(lambda: daemon.status()["decoys"]["visits"] >= 1, "a visit")
        _fill(client)
        windows: list[int] = []
        wait_for(lambda: windows.extend(_windows(lab)) or 0 in windows, "a window of 0", 20)
        assert max(windows) <= WINDOW
        # Probes of the closed window are answered with a closed window.
        more: list[int] = []
        wait_for(lambda: more.extend(_windows(lab)) or more, "an answer to a window probe", 20)
        assert set(more) == {0}
        assert not _is_reset(client)


def test_a_blocked_visitor_is_kept_without_an_answer(lab: Lab, start_daemon: StartDaemon) -> None:
    start_daemon(HOLD)
    lab.listen(LISTED)
    with lab.open(ATTACKER[4], DECOY) as client:
        wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
        _fill(client)
        assert not _is_reset(client)
        assert not lab.answers(ATTACKER[4])
        assert lab.answers(BYSTANDER[4])


def test_a_browser_is_dismissed_and_one_that_sends_its_request_is_judged_still(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    """The counterpart: a scanner that hides behind a browser's request is not kept, but blocked."""
    daemon = start_daemon(HOLD + OBSERVE)
    for port in (DECOY, 24):
        with lab.open(ATTACKER[4], port) as client:
            client.sendall(BROWSER)
            wait_for(lambda client=client: _is_reset(client), "dismissed")  # type: ignore[misc]
    assert daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["kinds"] == ["syn", "connect"]


def test_many_visitors_at_once_and_half_open_ones(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(HOLD + OBSERVE)
    lab.listen(LISTED)
    lab.probe(BYSTANDER[4], DECOY)  # half open: its SYN/ACK is never answered
    clients = []
    for number in range(8):
        clients.append(lab.open(ATTACKER[4], DECOY))
        clients[-1].sendall(b"hello")
        # An event when its first bytes were read: then it is kept.
        read = number + 1
        wait_for(lambda: _first_bytes(daemon) == read, "kept")  # noqa: B023
    assert daemon.status()["decoys"]["visits"] == len(clients)
    wait_for(lambda: all(map(_is_reset, clients[:5])), "the oldest are given up")
    assert not any(map(_is_reset, clients[5:]))
    assert lab.answers(BYSTANDER[4])
    assert daemon.status()["decoys"]["restarts"] == 0
    for client in clients:
        client.close()


def _first_bytes(daemon: Sentry) -> int:
    """Return how many visitors' first bytes were recorded."""
    return sum(event["sentryfw"].get("event") == "decoy" for event in daemon.events())


def test_reload_and_the_daemons_end_are_prompt(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(HOLD + OBSERVE)
    first = lab.open(ATTACKER[4], DECOY)
    first.sendall(b"hello")
    wait_for(lambda: daemon.status()["decoys"]["visits"] >= 1, "a visit")
    daemon.config.write_text(daemon.config.read_text().replace("10m", "20m"))
    ask(daemon.settings.paths.control, {"do": "reload"}, RELOAD_TIMEOUT_S)
    wait_for(lambda: _is_reset(first), "reset by the reload")
    second = lab.open(ATTACKER[4], DECOY)
    second.sendall(b"hello")
    wait_for(lambda: daemon.status()["decoys"]["visits"] >= 1, "a visit of the new decoy")
    daemon.stop()
    wait_for(lambda: _is_reset(second), "reset by the end")
    first.close()
    second.close()
