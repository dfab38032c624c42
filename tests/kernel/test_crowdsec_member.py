"""Decisions of Debian's CrowdSec as those of a member: what they do here, and what they cannot."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.respond.neighbours.alert import of_block
from sentryfw.respond.neighbours.lapi import Place
from sentryfw.respond.neighbours.lapi_child import Lapi
from support.api_schema import faults
from support.crowdsec import KEY, PACKAGES, PASSWORD, URL, LocalApi
from support.guest import fetch
from support.lab import ATTACKER, BYSTANDER, LISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.peers]

StartDaemon = Callable[[str], Sentry]
SCHEMAS: Final = Path(__file__).resolve().parents[2] / "docs" / "schemas"
DEADLINE_S: Final = 30.0
SIX: Final = "2001:2:0:1::/64"
"""The source of the attacker's IPv6 address."""
FAR: Final = "203.0.113.9"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch(tmp_path_factory.mktemp("crowdsec"), PACKAGES)


@pytest.fixture
def api(lab: Lab, packages: Path) -> Iterator[LocalApi]:
    with ExitStack() as stack:
        yield LocalApi(lab, packages, stack)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(f'user = "sentryfw"\npassword = "{PASSWORD}"\nkey = "{KEY}"\n')
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(credentials: Path) -> str:
    return f'[fleet.crowdsec]\nurl = "{URL}"\ncredentials = "{credentials}"\ninterval = "1s"\n'


def _cli(lab: Lab, daemon: Sentry, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "sentryfw", "-c", daemon.config, *words]
    done = lab.victim.run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _member(daemon: Sentry) -> dict[str, Any]:
    found: dict[str, Any] = daemon.status()["fleet"]["members"]["crowdsec"]
    return found


def _asked(daemon: Sentry) -> None:
    """Wait for two more answers of the API: the first may have been on its way."""

    def answers() -> int:
        return int(daemon.status()["fleet"]["crowdsec"]["answers"])

    before = answers()
    wait_for(lambda: answers() >= before + 2, "the API was asked", DEADLINE_S)


def _fleet(lab: Lab) -> set[str]:
    return lab.elements("fleet4") | lab.elements("fleet6")


def _found_by_scenario(lab: Lab, address: str) -> None:
    """Push a decision as CrowdSec's own agent does."""
    alert = of_block(address, 3600.0, time.time(), "seen").alert(decides=True)
    alert["scenario"] = alert["decisions"][0]["scenario"] = "crowdsecurity/iptables-scan"
    alert["decisions"][0]["origin"] = "crowdsec"

    def push() -> None:
        lapi = Lapi(Place(URL, None, 10.0, "other", PASSWORD))
        lapi.log_in(PASSWORD)
        lapi.push([alert])
        lapi.close()

    lab.victim.call(push)


def test_a_decision_by_hand_blocks_and_ends(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str
) -> None:
    lab.listen(LISTED)
    api.cscli("decisions", "add", "--ip", ATTACKER[4], "--duration", "24h", "--reason", "abuse")
    daemon = start_daemon(settings)
    wait_for(lambda: _fleet(lab) == {ATTACKER[4]}, "what was there at the start", DEADLINE_S)
    lab.probe(ATTACKER[4], LISTED)
    wait_for(lambda: lab.count("fleet") == 1, "the SYN was dropped")
    assert lab.answers(BYSTANDER[4], LISTED)
    [row] = json.loads(_cli(lab, daemon, "list", "--json"))
    assert (row["member"], row["evidence"], row["reason"]) == (
        "crowdsec", "hand", "crowdsec: cscli: abuse",
    )  # fmt: skip
    assert row["expires_in_s"] <= 4 * 3600
    explained = _cli(lab, daemon, "explain", ATTACKER[4])
    assert "blocked by the word of crowdsec: cscli: abuse" in explained

    api.cscli("decisions", "add", "--ip", "2001:2:0:1::77", "--duration", "1h")
    wait_for(lambda: len(_fleet(lab)) == 2, "one that came later", DEADLINE_S)
    api.cscli("decisions", "add", "--ip", ATTACKER[4], "--duration", "12h")
    _asked(daemon)
    api.cscli("decisions", "delete", "--ip", "2001:2:0:1::77")
    wait_for(lambda: _fleet(lab) == {ATTACKER[4]}, "it was deleted", DEADLINE_S)
    api.cscli("decisions", "delete", "--ip", ATTACKER[4])
    wait_for(lambda: _fleet(lab) == set(), "both were deleted", DEADLINE_S)
    assert json.loads(_cli(lab, daemon, "list", "--json")) == []
    events = [one["sentryfw"] for one in daemon.events() if one["sentryfw"]["event"] == "fleet"]
    assert {one["member"] for one in events} == {"crowdsec"}
    assert [one["effect"] for one in events if one["address"] == SIX] == ["block", "lift"]


def test_what_scenarios_found_only_defers(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str
) -> None:
    daemon = start_daemon(settings)
    _found_by_scenario(lab, ATTACKER[4])
    wait_for(lambda: _member(daemon)["weighed"] == 1, "it is weighed", DEADLINE_S)
    assert lab.elements("defer4") == set(), "who sends nothing unlisted notices nothing"
    lab.probe(ATTACKER[4], 1)
    wait_for(lambda: len(lab.elements("defer4")) == 1, "one own probe defers it")
    assert _fleet(lab) == set()
    assert not lab.is_blocked(ATTACKER[4]), "a block needs two own targets"
    api.cscli("decisions", "delete", "--ip", ATTACKER[4])
    wait_for(lambda: _member(daemon)["weighed"] == 0, "it was deleted", DEADLINE_S)
    lab.probe(BYSTANDER[4], 1)
    wait_for(lambda: daemon.status()["tracked_sources"] == 2, "another source's probe")
    assert len(lab.elements("defer4")) <= 1, "which nobody reported, is not deferred"


def test_a_shorter_decision_by_hand_counts_beside_a_longer_one(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str
) -> None:
    daemon = start_daemon(settings)
    _found_by_scenario(lab, FAR)
    wait_for(lambda: _member(daemon)["weighed"] == 1, "it is weighed", DEADLINE_S)
    api.cscli("decisions", "add", "--ip", FAR, "--duration", "20m")
    wait_for(lambda: _fleet(lab) == {FAR}, "the one by hand blocks", DEADLINE_S)
    daemon.stop()
    daemon.start()
    _asked(daemon)
    assert _fleet(lab) == {FAR}, "also where all are compared"
    [by_hand] = [
        one["id"]
        for alert in json.loads(api.cscli("decisions", "list", "-a"))
        for one in alert["decisions"]
        if one["origin"] == "cscli"
    ]
    api.cscli("decisions", "delete", "--id", str(by_hand))
    wait_for(lambda: _fleet(lab) == set(), "it ends", DEADLINE_S)
    assert _member(daemon)["weighed"] == 1, "and the other one goes on"


def test_with_full_trust_both_block_and_networks_too(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str
) -> None:
    daemon = start_daemon(f'{settings}trust = "full"\n')
    _found_by_scenario(lab, FAR)
    api.cscli("decisions", "add", "--range", "203.0.113.128/25", "--duration", "1h")
    wait_for(lambda: _fleet(lab) == {FAR}, "the source is blocked", DEADLINE_S)
    wait_for(
        lambda: "203.0.113.128/25" in lab.nft("list set inet sentryfw fleet_net4"),
        "and the network", DEADLINE_S,
    )  # fmt: skip
    assert _member(daemon)["blocks"] == 2
    api.cscli("decisions", "delete", "--all")
    wait_for(lambda: _member(daemon)["blocks"] == 0, "both were deleted", DEADLINE_S)


def test_what_must_not_be_blocked_is_refused_and_counted(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str
) -> None:
    lab.listen(LISTED)
    daemon = start_daemon(f'{settings}[never_block]\naddresses = ["{FAR}"]\n')
    client = lab.make_partner(BYSTANDER[4], LISTED)
    add = ("decisions", "add", "--duration", "1h")
    for words in (
        ("--range", "0.0.0.0/0"), ("--range", "198.51.100.0/24"), ("--ip", VICTIM[4]),
        ("--ip", FAR), ("--ip", BYSTANDER[4]),
        ("--ip", "203.0.113.1", "--type", "captcha"),
        ("--scope", "Country", "--value", "AQ"), ("--scope", "AS", "--value", "64512"),
    ):  # fmt: skip
        api.cscli(*add, *words)
    expected = {"too-wide": 1, "network": 1, "never-block": 3, "not-a-ban": 1, "scope": 2}
    wait_for(lambda: _member(daemon)["refused"] == expected, "each is counted", DEADLINE_S)
    assert _member(daemon)["blocks"] == 0
    assert _fleet(lab) == set()
    assert lab.answers(BYSTANDER[4], LISTED)
    client.close()
    schema = json.loads((SCHEMAS / "fleet-status.json").read_text())
    assert faults(json.loads(_cli(lab, daemon, "fleet", "status", "--json")), schema) == []
    shown = _cli(lab, daemon, "fleet", "status")
    assert "never-block 3" in shown
    assert "crowdsec: answered" in shown


def test_what_this_host_pushed_does_not_come_back(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str, credentials: Path
) -> None:
    push = f'[respond.crowdsec]\nurl = "{URL}"\ncredentials = "{credentials}"\n'
    daemon = start_daemon(f"{settings}{push}")
    api.cscli("decisions", "add", "--ip", FAR, "--duration", "1h")
    _cli(lab, daemon, "block", ATTACKER[4], "--timeout", "1h")
    wait_for(lambda: _member(daemon)["refused"] == {"echo": 1}, "ours was read", DEADLINE_S)
    wait_for(lambda: _fleet(lab) == {FAR}, "that of another one is taken", DEADLINE_S)
    _asked(daemon)
    ours = ("sentryfw", "sentryfw/block", ATTACKER[4])
    theirs = ("cscli", "manual 'ban' from 'other'", FAR)
    assert api.decisions() == {ours, theirs}, "and what came from there is not pushed"


def test_while_the_api_is_away_nothing_is_lifted_and_then_all_is_compared(
    lab: Lab, start_daemon: StartDaemon, api: LocalApi, settings: str, credentials: Path
) -> None:
    daemon = start_daemon(settings)
    for address in (FAR, ATTACKER[4]):
        api.cscli("decisions", "add", "--ip", address, "--duration", "1h")
    wait_for(lambda: _fleet(lab) == {FAR, ATTACKER[4]}, "two blocks", DEADLINE_S)
    api.stop()
    wait_for(lambda: "crowdsec" in daemon.status()["faults"], "the fault is shown", DEADLINE_S)
    assert "Connection refused" in daemon.status()["faults"]["crowdsec"]
    assert _fleet(lab) == {FAR, ATTACKER[4]}
    daemon.kill()
    daemon.start()
    assert _fleet(lab) == {FAR, ATTACKER[4]}, "a restart keeps them, too"
    _cli(lab, daemon, "unblock", ATTACKER[4])
    credentials.write_text('key = "another"\n')
    api.start()
    wait_for(
        lambda: "is the key a bouncer's?" in daemon.status()["faults"]["crowdsec"],
        "a wrong key is named", DEADLINE_S,
    )  # fmt: skip
    api.cscli("decisions", "delete", "--ip", FAR)
    assert _fleet(lab) == {FAR}
    credentials.write_text(f'key = "{KEY}"\n')
    wait_for(lambda: daemon.status()["faults"] == {}, "it answers again", DEADLINE_S)
    wait_for(lambda: _fleet(lab) == set(), "what was deleted meanwhile is withdrawn", DEADLINE_S)
    _asked(daemon)
    assert _fleet(lab) == set(), "and what was unblocked here by hand stays so"
