"""Events: Suricata's keys with our data, one complete line each."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.origin.model import Origin
from sentryfw.record.events import render_entry, render_note, render_origin, timestamp
from sentryfw.record.records import Located
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIX


def test_a_block_is_an_alert_in_the_format_of_eve() -> None:
    event = render_entry(BLOCK)
    assert list(event) == [
        "timestamp", "event_type", "src_ip", "dest_ip", "dest_port", "proto", "alert", "sentryfw",
    ]  # fmt: skip
    assert event["timestamp"] == "2027-01-15T08:00:00.500000+0000"
    assert (event["event_type"], event["src_ip"]) == ("alert", "198.18.0.2")
    assert (event["dest_ip"], event["dest_port"], event["proto"]) == ("198.18.0.1", 22, "TCP")
    assert list(event["alert"]) == [
        "action", "gid", "signature_id", "rev", "signature", "category", "severity", "metadata",
    ]  # fmt: skip
    assert event["alert"]["action"] == "blocked"
    assert event["alert"]["signature"] == "SentryFW portscan (syn, udp)"


def test_the_reason_of_a_block_is_under_our_own_key() -> None:
    assert render_entry(BLOCK)["sentryfw"] == {
        "id": "006651728a02120-d6a2bf8e",
        "address": "198.18.0.2",
        "family": 4,
        "scan": "portscan",
        "kinds": ["syn", "udp"],
        "targets": 3,
        "probes": 5,
        "first_seen": "2027-01-15T07:59:58.500000+0000",
        "blocked_at": "2027-01-15T08:00:00.500000+0000",
        "timeout_s": 3600.0,
        "offence": 1,
        "forgeable": True,
        "tool": "unknown",
        "reason": "3 distinct targets within the window",
        "sample": ["198.18.0.1 tcp/22", "198.18.0.1 tcp/23", "198.18.0.1 udp/53"],
        "blocked": True,
        "inside": False,
        "confined": False,
        "zone": "",
        "action": "blocked",
    }


@pytest.mark.parametrize(
    ("inside", "tactic", "technique"),
    [(False, "TA0043", "T1595.001"), (True, "TA0007", "T1046")],
    ids=["outside", "inside"],
)
def test_the_technique_depends_on_the_side_of_the_source(
    tactic: str, technique: str, *, inside: bool
) -> None:
    alert = render_entry(BLOCK._replace(inside=inside))["alert"]
    assert alert["metadata"] == {
        "mitre_tactic_id": [tactic], "mitre_technique_id": [technique]
    }  # fmt: skip


def test_a_refusal_is_allowed_and_was_never_blocked() -> None:
    event = render_entry(REFUSAL)
    assert event["alert"]["action"] == "allowed"
    assert event["sentryfw"]["blocked_at"] is None
    assert event["sentryfw"]["reason"] == "partner"


def test_an_ipv6_source_is_an_address_that_readers_of_eve_parse() -> None:
    event = render_entry(SIX)
    assert (event["src_ip"], event["dest_ip"]) == ("2001:2::", "2001:2:0:1::1")
    assert event["sentryfw"]["address"] == "2001:2::/64"


def test_each_scan_has_a_signature() -> None:
    numbers = [render_entry(entry)["alert"]["signature_id"] for entry in (BLOCK, SIX)]
    assert len(set(numbers)) == 2
    assert 0 not in numbers


def test_a_block_by_hand_has_no_target() -> None:
    event = render_entry(BLOCK._replace(scan="", kinds=[], sample=[]))
    assert (event["dest_ip"], event["dest_port"]) == (None, None)
    assert event["alert"]["signature"].startswith("SentryFW block")


def test_a_note_has_its_fields() -> None:
    assert render_note("flood", BLOCKED_AT, on=True) == {
        "timestamp": "2027-01-15T08:00:00.500000+0000",
        "event_type": "sentryfw",
        "sentryfw": {"event": "flood", "on": True},
    }


def test_an_origin_has_the_names_of_ecs() -> None:
    item = Origin("DE", 64500, "Example Net", ("Research scanner",)).item()
    event = render_origin(Located("2001:db8:0:1::/64", item, 0.0))
    assert event["source"] == {
        "ip": "2001:db8:0:1::", "geo": {"country_iso_code": "DE"},
        "as": {"number": 64500, "organization": {"name": "Example Net"}},
    }  # fmt: skip
    assert event["src_ip"] == "2001:db8:0:1::"
    assert event["sentryfw"] == {
        "event": "origin", "address": "2001:db8:0:1::/64", "labels": ["Research scanner"],
    }  # fmt: skip


def test_a_timestamp_has_suricatas_format() -> None:
    read = datetime.strptime(timestamp(BLOCKED_AT), "%Y-%m-%dT%H:%M:%S.%f%z")
    assert read == datetime.fromtimestamp(BLOCKED_AT, UTC)


@given(seconds=st.floats(0, 253_402_300_000))
def test_a_timestamp_equals_that_of_strftime(seconds: float) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert timestamp(seconds) == moment.strftime("%Y-%m-%dT%H:%M:%S.%f%z")
