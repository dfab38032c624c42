"""Every scan of the table, by the real tools: recognised for what it is, and blocked in time."""

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sentryfw.engine.decide import GROUP_TIMEOUT_S
from sentryfw.engine.model import parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.tools.drill.namespace import add_address
from support.frames import ACK, RST, SYN
from support.lab import ATTACKER, INTERFACE, PREFIX, VICTIM, drain
from support.scan_page import check_page
from support.scans import CASES, DECOYS, OPEN, SWEPT, Scan
from support.shared import Shared
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def swept(shared: Shared) -> Shared:
    """The shared lab, whose victim has twelve more addresses of each family."""
    for family, addresses in SWEPT.items():
        for address in addresses:
            add_address(shared.lab.victim, INTERFACE, f"{address}/{PREFIX[family]}")
    return shared


@pytest.fixture
def scene(swept: Shared, fresh: Shared) -> Iterator[Shared]:
    yield fresh
    fresh.lab.close_sockets()


def _name(source: str) -> str:
    return source_text(parse_source(source, LINK_LOCAL_ONLY))


def _run(scene: Shared, scan: Scan, family: int, sources: set[str]) -> dict[str, Any]:
    """Run it until each source is blocked; the last alert of each."""
    if scan.where == "open":
        for port in OPEN:
            scene.lab.listen(port, family)
    command = scan.command(family, scene.lab.ether[:6].hex(":"))
    tool = scene.lab.attacker.popen(command)

    def is_blocked() -> bool:
        nonlocal tool
        if tool.poll() == -signal.SIGABRT:
            # zmap 2.1.1 fails an assertion of its own now and then (constraint.c:231).
            tool.communicate()
            tool = scene.lab.attacker.popen(command)
        return sources <= set(_last(scene))

    try:
        wait_for(is_blocked, "every source is blocked", 20)
    except AssertionError as error:
        tool.kill()
        said = "\n".join(tool.communicate())
        raise AssertionError(f"{error}\n{' '.join(command)}\n{said}") from None
    finally:
        tool.kill()
        tool.wait()
    drain(scene.sentry)
    return _last(scene)


def _last(scene: Shared) -> dict[str, Any]:
    return {str(alert["address"]): alert for alert in scene.alerts()}


def _id(value: object) -> str:
    if not isinstance(value, Scan):
        return f"ipv{value}"
    return f"{value.tool} {value.options}{' open' if value.where == 'open' else ''}"


@pytest.mark.nmap
@pytest.mark.parametrize(("scan", "family"), CASES, ids=_id)
def test_every_scan_is_recognised_and_blocked_in_time(
    scene: Shared, scan: Scan, family: int
) -> None:
    if shutil.which(scan.tool) is None:
        pytest.skip(f"needs {scan.tool}")
    names = {ATTACKER[family]}
    if scan.finding == "decoy-scan":
        names |= set(DECOYS[family])
    sources = {_name(name) for name in names}
    found = _run(scene, scan, family, sources)
    assert set(found) == sources
    for alert in found.values():
        assert (alert["kinds"], alert["scan"]) == ([scan.kind], scan.finding)
        assert alert["targets"] == scan.probes
        assert alert["blocked"]
    assert all(scene.lab.is_blocked(name) for name in names)


@pytest.mark.nmap
@families
def test_decoys_are_blocked_briefly_without_an_offence(scene: Shared, family: int) -> None:
    scan = next(scan for scan, _ in CASES if scan.finding == "decoy-scan")
    sources = {_name(name) for name in (ATTACKER[family], *DECOYS[family])}
    found = _run(scene, scan, family, sources)
    for alert in found.values():
        assert alert["timeout_s"] == GROUP_TIMEOUT_S
        assert alert["offence"] == 0
    left = {b.address: (b.timeout, b.expires) for b in scene.lab.table.sets.blocked_sources()}
    assert set(left) == sources
    assert all(
        timeout == GROUP_TIMEOUT_S and end <= GROUP_TIMEOUT_S for timeout, end in left.values()
    )


@families
@pytest.mark.parametrize("flags", [SYN | ACK, RST], ids=["SYNACK", "RST"])
def test_flags_of_answers_are_not_recognised_as_a_scan(
    scene: Shared, flags: int, family: int
) -> None:
    """A documented limit: backscatter looks equal."""
    scene.lab.probe(ATTACKER[family], *range(7001, 7021), flags=flags)
    wait_for(lambda: scene.count("backscatter") == 20, "twenty of them")
    scene.assert_quiet()


@pytest.mark.nmap
def test_datagrams_with_few_hops_left_are_missed_on_high_ports_only(scene: Shared) -> None:
    """The other limit: with a TTL that fits the distance a UDP scan looks like a path trace."""
    command = ["nmap", "-n", "-Pn", "-sU", "--max-retries", "0", "--ttl", "7", "-p"]
    scene.lab.attacker.run(*command, "40001-40010", VICTIM[4])
    wait_for(lambda: scene.count("judged") >= 10, "ten datagrams")
    scene.assert_quiet()
    scene.lab.attacker.run(*command, "7001-7010", VICTIM[4])
    assert scene.await_alert()["kinds"] == ["udp"]


def test_the_page_shows_the_results_of_the_tests() -> None:
    check_page()
