"""PortSentry 1.2 of Debian and SentryFW, configured by the same files, under the same scans.

import-portsentry converts the files for SentryFW; the scans probe one unlisted port. The expected
answers of both are in support/beside.py, from which docs/portsentry.md is made. "Stops" is
measured: whether a connection, and a datagram, of the source still reach a service.

See docs/decisions.md: portsentry-beside.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from sentryfw.tools.drill.namespace import add_address
from sentryfw.tools.portsentry.convert import convert
from sentryfw.tools.portsentry.files import collect
from sentryfw.tools.portsentry.render import render
from support.beside import (
    CANARY,
    CONNECTIONS,
    EVERYTHING,
    NEEDED,
    NOTHING,
    PORT,
    ROWS,
    PortSentry,
    Row,
    Shown,
    scan,
    source,
)
from support.lab import ATTACKER, BYSTANDER, INTERFACE, LISTED, PREFIX, VICTIM, Lab, Sentry
from support.portsentry import elsewhere
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap, pytest.mark.peers]

HOSTS_DENY = Path("/etc/hosts.deny")
PATIENCE = 1.5
"""Seconds for an answer: a SYN that was lost is sent again after one."""


@pytest.fixture(scope="module")
def root(debian_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Debian's files, with blocking on: hosts.deny and a reject route, as shipped."""
    root = tmp_path_factory.mktemp("beside") / "root"
    shutil.copytree(debian_root, root)
    conf = root / "etc/portsentry/portsentry.conf"
    text = conf.read_text()
    for protocol in ("TCP", "UDP"):
        assert f'BLOCK_{protocol}="0"' in text
        text = text.replace(f'BLOCK_{protocol}="0"', f'BLOCK_{protocol}="1"')
    conf.write_text(text)
    return root


@pytest.fixture(scope="module", autouse=True)
def _the_machines_own_file() -> Iterator[None]:
    """PortSentry writes nothing into hosts.deny of the machine that the tests run on.

    The file as a whole is not compared: a package that is installed during the tests may make it.
    """
    yield
    lines = HOSTS_DENY.read_text().splitlines() if HOSTS_DENY.exists() else []
    sources = {source(row) for row in ROWS}
    assert [line for line in lines if sources.intersection(re.findall(r"[0-9a-f:.]+", line))] == []


def _lab() -> Lab:
    """Return a lab in which the attacker has an address for each scan, the victim each service."""
    lab = Lab()
    for row in ROWS:
        add_address(lab.attacker, INTERFACE, f"{source(row)}/{PREFIX[row.family]}")
    # The kernel's default; otherwise a reject route keeps packets out as well as answers in.
    lab.victim.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    lab.victim.run("sysctl", "-qw", f"net.ipv4.conf.{INTERFACE}.rp_filter=0")
    for family in (4, 6):
        lab.listen(LISTED, family)
    return lab


@pytest.fixture(scope="module")
def portsentry(root: Path) -> Iterator[tuple[Lab, PortSentry]]:
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    with _lab() as lab, PortSentry(lab, root) as running:
        yield lab, running


@pytest.fixture(scope="module")
def sentry(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentry]:
    home = tmp_path_factory.mktemp("home")
    imported = render(convert(collect(root / "etc/portsentry"), "atcp", "audp"))
    with _lab() as lab:
        made = Sentry(lab, elsewhere(imported, home).replace("/var/lib/portsentry", str(home)))
        try:
            yield made.start()
        finally:
            made.close()


def _cases() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", ROWS, ids=[row.options for row in ROWS])


@_cases()
def test_portsentrys_answer_to_a_scan(portsentry: tuple[Lab, PortSentry], row: Row) -> None:
    lab, running = portsentry
    address = source(row)
    assert _stopped(lab, BYSTANDER[row.family]) == NOTHING
    scan(lab, row)
    # It processes packets one by one: after it reported a later one, it has reported all.
    canary = f"198.18.0.{200 + ROWS.index(row)}"
    lab.probe(canary, CANARY)
    wait_for(lambda: running.name_of(canary), "the canary is told")
    if row.portsentry.name == NOTHING:
        assert running.name_of(address) == ""
    else:
        wait_for(lambda: running.has_blocked(address), "it says that it has blocked")
    assert Shown(running.name_of(address) or NOTHING, _stopped(lab, address)) == row.portsentry


@_cases()
def test_sentryfws_answer_to_a_scan(sentry: Sentry, row: Row) -> None:
    address = source(row)
    # A bystander: a source that had finished a handshake before would be a partner.
    assert _stopped(sentry.lab, BYSTANDER[row.family]) == NOTHING
    scan(sentry.lab, row)
    [name] = sentry.alert(address)["sentryfw"]["kinds"]
    assert Shown(name, _stopped(sentry.lab, address)) == row.sentryfw


def test_portsentry_reports_a_block_of_a_source_whose_datagrams_still_arrive(
    portsentry: tuple[Lab, PortSentry],
) -> None:
    """It also writes one line to hosts.deny for each."""
    lab, running = portsentry
    scan(lab, ROWS[0])
    address = source(ROWS[0])
    wait_for(lambda: running.has_blocked(address), "it says that it has blocked")
    assert _gets_a_datagram_through(lab, address)
    assert running.deny.read_text().count(f"ALL: {address} : DENY\n") == 1


def test_portsentry_blocks_a_client_for_a_probe_forged_with_its_address(
    portsentry: tuple[Lab, PortSentry],
) -> None:
    lab, running = portsentry
    client = ATTACKER[4]
    assert _connects(lab, client)
    lab.probe(client, PORT)
    wait_for(lambda: running.has_blocked(client), "it says that it has blocked")
    assert not _connects(lab, client)


def test_sentryfw_does_not_block_a_client_for_that_probe(sentry: Sentry) -> None:
    client = ATTACKER[4]
    sentry.lab.make_partner(client)
    sentry.lab.probe(client, PORT)
    assert sentry.alert(client, "allowed")["sentryfw"]["action"] == "confined"
    assert _connects(sentry.lab, client)


def test_portsentry_ends_without_leftovers(root: Path) -> None:
    """No process and no mount of it remains."""
    others = _processes(root)
    with _lab() as lab:
        with PortSentry(lab, root) as running:
            home = running.deny.parent.parent
            assert len(_processes(root) - others) == 2
        wait_for(lambda: _processes(root) == others, "its processes are gone")
        assert str(home) not in Path("/proc/mounts").read_text()
        assert not home.exists()


def _processes(root: Path) -> set[Path]:
    """Return the processes that run the program: that file, since the link's text is a path in a
    mount namespace of theirs."""
    program = root / "usr/sbin/portsentry"
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # kernel threads, and processes that have ended since
            if (process / "exe").samefile(program):
                found.add(process)
    return found


def _stopped(lab: Lab, address: str) -> str:
    """Return the kinds of packets that no longer reach a service."""
    connects = _connects(lab, address)
    if _gets_a_datagram_through(lab, address):
        return NOTHING if connects else CONNECTIONS
    assert not connects
    return EVERYTHING


def _connects(lab: Lab, address: str) -> bool:
    try:
        lab.open(address, timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def _gets_a_datagram_through(lab: Lab, address: str) -> bool:
    """Wait for a bystander's datagram, which is sent later and always arrives."""
    family = ip_address(address).version
    bystander = BYSTANDER[family]
    service = lab.bind_udp(LISTED, family)
    service.settimeout(5)
    came = []
    for sender in (address, bystander):
        with lab.udp(sender) as client:
            client.sendto(b"hello", (VICTIM[family], LISTED))
    while bystander not in came:
        came.append(service.recvfrom(100)[1][0])
    service.close()
    return address in came
