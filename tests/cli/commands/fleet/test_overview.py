"""fleet status: the words of the daemon and of the link in one picture; the link may lie."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sentryfw.cli.commands.fleet.overview import (
    MAX_REPORT_BYTES,
    _lines,
    combined,
    link_of,
    promised,
    title,
)
from sentryfw.config.fleet import FleetHub
from sentryfw.setup.fleet.authority import issue, make_authority
from sentryfw.setup.fleet.hub_files import today

NOW = 1_800_000_000.0
HUB = FleetHub(url="rediss://192.0.2.1:6380")
REPORT = {
    "v": 1, "hub": HUB.url, "reached": True, "faults": [], "sent": 7,
    "last": {"fw1": 30, "fw2": 20}, "told": {"fw2": {"fw1": 28}},
    "refused": {"fw2": {"wrong-id": 3}},
}  # fmt: skip
FLEET = {
    "name": "fw1", "unreadable": {"bad-signature": 2},
    "members": {"fw2": {"trust": "full", "last": 15, "blocks": 1, "weighed": 0, "shown": 0,
                        "refused": {"never-block": 1}}},
}  # fmt: skip


def written(tmp_path: Path, report: object, age: float = 0.0) -> Path:
    path = tmp_path / "status.json"
    path.write_text(report if isinstance(report, str) else json.dumps(report))
    os.utime(path, (NOW - age, NOW - age))
    return path


def lines(tmp_path: Path, report: object, age: float = 0.0) -> str:
    found = combined(FLEET, link_of(written(tmp_path, report, age), HUB, NOW))
    return "\n".join(_lines(found, NOW))


def test_each_member_has_how_far_both_are_behind(tmp_path: Path) -> None:
    found = combined(FLEET, link_of(written(tmp_path, REPORT), HUB, NOW))
    [member] = found["members"]
    assert (member["behind"], member["it_lacks"]) == (5, 2)
    assert member["refused"] == {"never-block": 1, "hub: wrong-id": 3}
    assert "is reached; 7 entries sent" in lines(tmp_path, REPORT)
    assert "bad-signature 2" in lines(tmp_path, REPORT)


def test_a_hub_that_is_away_is_named_with_its_fault(tmp_path: Path) -> None:
    report = {**REPORT, "reached": False, "faults": ["10.0.0.1:6380: no answer"]}
    text = lines(tmp_path, report)
    assert "is not reached; every firewall guards alone" in text
    assert "10.0.0.1:6380: no answer" in text


def test_a_link_that_ended_is_named(tmp_path: Path) -> None:
    assert "the link does not run" in lines(tmp_path, REPORT, age=60)
    missing = link_of(tmp_path / "none", HUB, NOW)
    assert not missing["running"]


@pytest.mark.parametrize(
    "report",
    ["", "[", "[]", "7", "[" * 60_000, json.dumps({"hub": "\x1b[2J", "faults": ["\x1b[2J"]}),
     json.dumps({"last": 7, "told": [], "refused": "x", "configured": False}),
     json.dumps({"last": {"fw2": "x"}, "told": {"fw2": []}, "refused": {"fw2": {"a": "b"}}}),
     '{"sent": 1e999}', "x" * (MAX_REPORT_BYTES + 9)],
)  # fmt: skip
def test_a_link_that_lies_is_not_believed(tmp_path: Path, report: str) -> None:
    link = link_of(written(tmp_path, report), HUB, NOW)
    assert link["configured"]
    found = combined(FLEET, link)
    [member] = found["members"]
    assert member["behind"] is None
    assert "\x1b" not in "\n".join(_lines(found, NOW))


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "status.json").symlink_to("/etc/shadow")
    link = link_of(tmp_path / "status.json", HUB, NOW)
    assert link["faults"] == [f"{tmp_path / 'status.json'} cannot be read"]


def test_without_a_hub_there_is_a_line_for_that() -> None:
    found = combined(FLEET, link_of(Path("/none"), FleetHub(), NOW))
    assert "hub: none" in _lines(found, NOW)[-1]


@pytest.mark.parametrize(("days", "expected"), [(400, ""), (9, "ends in"), (-1, "has ended")])
def test_the_end_of_our_certificate_is_named_a_month_before(
    tmp_path: Path, days: int, expected: str
) -> None:
    now = today()
    begin = now - timedelta(days=10)
    made = issue(make_authority("test", begin), "fw1", begin, days=days + 10)
    (tmp_path / "c.pem").write_text(made.certificate)
    values: dict[str, Any] = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    hub = HUB.model_copy(update=values)
    link = link_of(tmp_path / "none", hub, now.timestamp())
    text = "\n".join(_lines(combined(FLEET, link), now.timestamp()))
    assert (expected or "our certificate") in text if expected else "our certificate" not in text
    (tmp_path / "c.pem").unlink()
    link = link_of(tmp_path / "none", hub, now.timestamp())
    assert "No such file" in link["certificate_fault"]


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        ({"fault": "", "answered_s": None}, "crowdsec: not asked yet"),
        ({"fault": "", "answered_s": 3.2}, "crowdsec: answered 3 s ago"),
        ({"answered_s": 3.2, "left_out": 7},
         "crowdsec: answered 3 s ago; 7 decisions have no place"),
        ({"fault": "127.0.0.1: refused\x1b", "fault_s": 60.0},
         "crowdsec: 127.0.0.1: refused?, for 60 s; its decisions here end at their time"),
    ],
)  # fmt: skip
def test_how_crowdsec_is_reached_is_one_line(reach: dict[str, Any], expected: str) -> None:
    whole = {"member": "crowdsec", "fault": "", "fault_s": 0.0, "answered_s": None, "left_out": 0}
    alone = {"name": "", "members": {}, "crowdsec": {**whole, **reach}}
    found = combined(alone, {"configured": False})
    assert _lines(found, NOW) == [expected], "without a name of ours there is no hub to miss"
    named = combined({**alone, "name": "fw1"}, {"configured": False})
    assert "hub: none" in _lines(named, NOW)[1]


def test_the_title_names_our_fleet_if_there_is_one() -> None:
    assert title(2, "fw1") == "2 members of fw1's fleet"
    assert title(1, "") == "1 members"


@pytest.mark.parametrize("lie", [None, 7, True, "x", [], {}, [{}], {"a": 1}])
def test_what_json_promises_of_the_link_keeps_its_types(lie: Any) -> None:
    keys = ("running", "reached", "hub", "faults", "sent", "more")
    shown = promised({**dict.fromkeys(keys, lie), "configured": True})
    kinds = {name: type(value) for name, value in shown.items()}
    assert kinds == {
        "configured": bool, "running": bool, "reached": bool, "hub": str, "faults": list,
        "sent": int, "certificate_ends": type(None), "certificate_fault": str,
    }  # fmt: skip
    assert {type(one) for one in shown["faults"]} <= {str}


def test_the_end_of_the_certificate_is_a_time_in_utc() -> None:
    shown = promised({"configured": True, "certificate_ends": NOW})
    assert shown["certificate_ends"].startswith("2027-01-15T08:00:00")
