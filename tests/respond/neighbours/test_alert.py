"""Blocks in the form of CrowdSec's alerts."""

from sentryfw.respond.neighbours.alert import FOREVER_S, of_block, of_incident
from support.reactions import AT, INCIDENT, SIX


def test_a_proven_block_has_a_decision_that_ends_with_it() -> None:
    alert = of_incident(INCIDENT._replace(forgeable=False)).alert(decides=True)
    assert alert["decisions"] == [
        {
            "duration": "3600s", "origin": "sentryfw", "scenario": "sentryfw/portscan",
            "scope": "Ip", "type": "ban", "value": "198.18.0.2",
        }
    ]  # fmt: skip
    assert alert["source"] == {"scope": "Ip", "value": "198.18.0.2", "ip": "198.18.0.2"}
    assert (alert["start_at"], alert["stop_at"]) == ("2027-01-15T07:59:58Z", "2027-01-15T08:00:00Z")
    assert alert["events_count"] == 5
    meta = {one["key"]: one["value"] for one in alert["events"][0]["meta"]}
    assert meta == {
        "evidence": "proven", "kinds": "syn,udp", "targets": "3",
        "last_target": "198.18.0.1 tcp/111", "tool": "nmap",
    }  # fmt: skip


def test_without_a_decision_no_profile_makes_one() -> None:
    alert = of_incident(INCIDENT).alert(decides=False)
    assert (alert["decisions"], alert["remediation"]) == ([], False)


def test_an_ipv6_source_is_a_range() -> None:
    alert = of_incident(SIX).alert(decides=True)
    assert alert["source"] == {
        "scope": "Range", "value": "2001:2:0:1::/64", "range": "2001:2:0:1::/64"
    }  # fmt: skip
    assert alert["decisions"][0]["scope"] == "Range"


def test_a_block_without_an_end_has_a_long_decision() -> None:
    alert = of_block("198.18.0.2", 0.0, AT, "blocked by hand").alert(decides=True)
    assert alert["decisions"][0]["duration"] == f"{FOREVER_S:.0f}s"
    assert (alert["message"], alert["events"]) == ("blocked by hand", [])


def test_a_decision_lasts_a_second_at_least() -> None:
    alert = of_block("198.18.0.2", 0.2, AT, "").alert(decides=True)
    assert alert["decisions"][0]["duration"] == "1s"
