"""docs/false-alarms.md: its innocents are blocked without their lines, and spared with them."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest

from query.test_neighbours_page import BLOCKS
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
MAIL: Final = (995, 110, 465)
KNOCK: Final = (7000, 8000, 9000)
TPROXY: Final = f"""
table ip divert {{
    chain prerouting {{
        type filter hook prerouting priority mangle;
        tcp dport {{ 7001, 7002, 7003 }} tproxy to :{LISTED} meta mark set 1 accept
    }}
}}
"""


def _line_with(text: str) -> str:
    """Return the block of the page that has this text."""
    [block] = [block for block in BLOCKS if text in block]
    return str(block)


def _visit(lab: Lab, source: str, *ports: int) -> None:
    """Connect as a client's ordinary stack does, to closed ports."""
    for port in ports:
        client = lab.start_opening(source)
        with suppress(OSError):
            client.connect((VICTIM[4], port))


@pytest.mark.parametrize(
    ("ports", "line"),
    [
        (MAIL, _line_with("listed_tcp = [25")),
        (KNOCK, _line_with("7000")),
        (UNLISTED, _line_with("trigger = 6")),
        (UNLISTED, _line_with("addresses").replace("192.0.2.10", ATTACKER[4])),
    ],
    ids=["mail-autoconfiguration", "knocking", "three-images", "scanner-of-ones-own"],
)
def test_the_line_spares_who_is_blocked_without_it(
    lab: Lab, make_daemon: MakeDaemon, ports: tuple[int, ...], line: str
) -> None:
    daemon = make_daemon("").start()
    _visit(lab, ATTACKER[4], *ports)
    daemon.alert(ATTACKER[4], action="blocked")
    daemon.stop()
    lab.nft("flush ruleset")
    daemon = make_daemon(line).start()
    _visit(lab, ATTACKER[4], *ports)
    # A scanner beside it is blocked all the same.
    lab.probe(BYSTANDER[4], *range(9001, 9010))
    daemon.alert(BYSTANDER[4], action="blocked")
    drain(daemon)
    assert not lab.is_blocked(ATTACKER[4])


def test_knocking_rules_behind_us_see_a_knock_that_is_listed(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    lab.nft(
        "add table ip knock; add set ip knock seen { type ipv4_addr; flags timeout; };"
        " add chain ip knock input { type filter hook input priority 0; };"
        " add rule ip knock input tcp dport 7000 add @seen { ip saddr timeout 1m }"
    )
    make_daemon(_line_with("7000")).start()
    _visit(lab, ATTACKER[4], KNOCK[0])
    wait_for(lambda: ATTACKER[4] in lab.nft("list set ip knock seen"), "the knock is seen")


def test_clients_that_get_syn_cookies_are_not_judged(lab: Lab, daemon: Sentry) -> None:
    assert lab.victim.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2").returncode == 0
    lab.listen()
    for _ in range(10):
        lab.open(ATTACKER[4])
    drain(daemon)
    assert daemon.alerts(ATTACKER[4]) == []
    assert lab.count("judged") == 0
    assert re.search(r"SyncookiesRecv", lab.victim.run("cat", "/proc/net/netstat").stdout)


def test_a_port_that_tproxy_takes_is_listed(lab: Lab, daemon: Sentry) -> None:
    listener = lab.listen()
    listener.setsockopt(0, 19, 1)  # IP_TRANSPARENT
    done = lab.victim.run("nft", TPROXY)
    assert done.returncode == 0, done.stderr
    lab.victim.ip("rule", "add", "fwmark", "1", "lookup", "100")
    lab.victim.ip("route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100")
    for port in (7001, 7002, 7003):
        lab.open(ATTACKER[4], port)
    lab.probe(BYSTANDER[4], 7004, 7005, 7006)
    daemon.alert(BYSTANDER[4], action="blocked")
    assert not lab.is_blocked(ATTACKER[4])
    assert lab.count("judged") == 3
