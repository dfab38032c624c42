"""[block] while_away = "drop": nothing unlisted is answered while a killed daemon is away."""

import socket
from collections.abc import Callable

import pytest

from support.frames import SYN, icmp_frame, tcp_frame, udp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, VICTIM, Lab, Sentry, drain
from support.router import BEHIND, FORWARD, Router
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
DROP = '[block]\nwhile_away = "drop"\n'
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def _reset(lab: Lab, source: str, target: str, port: int = 7001) -> bool:
    """Return whether a SYN to a port without a socket is answered by a reset."""
    with lab.attacker.call(
        lambda: socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
    ) as client:
        client.bind((source, 0))
        client.settimeout(0.5)
        try:
            client.connect((target, port))
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            return True
    raise AssertionError("something listens there")


def _dropped(lab: Lab) -> int:
    return lab.count("while_away")


@both_families
def test_a_killed_daemon_leaves_unlisted_ports_silent(
    lab: Lab, make_daemon: MakeDaemon, family: int
) -> None:
    daemon = make_daemon(DROP).start()
    lab.listen(LISTED, family)
    daemon.kill()
    assert not _reset(lab, ATTACKER[family], VICTIM[family])
    assert _dropped(lab) > 0
    lab.open(ATTACKER[family]).close()  # a listed port serves
    before = _dropped(lab)
    lab.wire.send(udp_frame(lab.ether, ATTACKER[family], VICTIM[family], 40000, 7002))
    wait_for(lambda: _dropped(lab) == before + 1, "a datagram is dropped")


def test_live_connections_and_pings_are_served(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(DROP).start()
    listener = lab.listen()
    client = lab.open(ATTACKER[4])
    served, _ = listener.accept()
    daemon.kill()
    client.sendall(b"still here")
    served.settimeout(5.0)
    assert served.recv(10) == b"still here"
    served.close()
    ours = lab.open_from_victim(ATTACKER[4], _other_end(lab))
    ours.sendall(b"out")
    lab.wire.received()
    lab.wire.send(icmp_frame(lab.ether, BYSTANDER[4], VICTIM[4], 8, 1))
    wait_for(lambda: any(f[23] == 1 and f[34] == 0 for f in lab.wire.received()), "an echo reply")


def _other_end(lab: Lab) -> int:
    made = lab.attacker.call(lambda: socket.create_server((ATTACKER[4], 0)))
    lab._sockets.append(made)
    return int(made.getsockname()[1])


@both_families
def test_a_stopped_daemon_leaves_the_host_to_itself(
    lab: Lab, make_daemon: MakeDaemon, family: int
) -> None:
    daemon = make_daemon(DROP).start()
    daemon.stop()
    assert _reset(lab, ATTACKER[family], VICTIM[family])
    daemon.start()
    daemon.kill()
    assert not _reset(lab, BYSTANDER[family], VICTIM[family])


def test_while_the_daemon_runs_its_verdict_counts(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(DROP).start()
    lab.probe(ATTACKER[4], 7001)
    drain(daemon)
    lab.wire.send(tcp_frame(lab.ether, ATTACKER[4], VICTIM[4], 40000, LISTED, SYN))
    drain(daemon)
    assert _dropped(lab) == 0


def test_a_repair_and_a_reload_keep_it(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("").start()
    text = daemon.config.read_text()
    daemon.config.write_text(text + DROP)
    assert "block.while_away" in daemon.ask(do="reload")["changed"]
    repairs = daemon.status()["healed"]["count"]
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] > repairs, "repaired", 20)
    daemon.kill()
    assert not _reset(lab, ATTACKER[4], VICTIM[4])
    daemon.start()
    daemon.config.write_text(text)
    daemon.ask(do="reload")
    daemon.kill()
    assert _reset(lab, BYSTANDER[4], VICTIM[4])


@pytest.mark.parametrize(
    "settings",
    [
        "", '[detect]\nmode = "observe"\n' + DROP, DROP + 'unlisted = "accept"\n',
        DROP + 'unlisted = "reject"\n',
    ],
    ids=["not-asked-for", "observe", "accept", "reject"],
)  # fmt: skip
def test_otherwise_a_killed_daemon_lets_pass(
    lab: Lab, make_daemon: MakeDaemon, settings: str
) -> None:
    make_daemon(settings).start().kill()
    assert _reset(lab, ATTACKER[4], VICTIM[4])


def test_hosts_behind_are_silent_too(lab: Lab, make_daemon: MakeDaemon) -> None:
    with Router(lab):
        daemon = make_daemon(DROP + FORWARD).start()
        daemon.kill()
        assert not _reset(lab, ATTACKER[4], BEHIND[4])
        daemon.start().stop()
        assert _reset(lab, BYSTANDER[4], BEHIND[4])
