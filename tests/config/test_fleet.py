"""[fleet]: members have a name, a key, and bounds."""

from typing import Any

import pytest
from pydantic import ValidationError

from sentryfw.config.fleet import Fleet, FleetHub, HubAddress, parse_hub

KEY = "ab" * 32


def test_without_a_name_there_is_no_fleet() -> None:
    assert Fleet() == Fleet(name="", members={})


def test_a_member_is_weighed_by_default() -> None:
    fleet = Fleet.model_validate({"name": "fw1", "members": {"fw2": {"key": KEY}}})
    member = fleet.members["fw2"]
    bounds = (member.trust, member.max_alive, member.per_minute, member.max_time)
    assert bounds == ("weigh", 2000, 60, 14400.0)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"members": {"fw2": {"key": KEY}}}, "need a name of this firewall"),
        ({"name": "fw2", "members": {"fw2": {"key": KEY}}}, "fw2 is this firewall"),
        ({"name": "fw1", "members": {"": {"key": KEY}}}, "a member has a name"),
        ({"name": "fw1", "agree": 1, "members": {"fw2": {"key": KEY}}}, "one member alone"),
        ({"name": "fw1", "agree": 2, "members": {"fw2": {"key": KEY}}}, "there are 1 members"),
        ({"name": "fw1", "agree": -1}, "agree"),
        ({"name": "FW 1"}, "is not a name"),
        ({"name": "fw1", "members": {"fw2": {"key": "ab"}}}, "64 hexadecimal digits"),
        ({"name": "fw1", "members": {"fw2": {"key": KEY, "trust": "all"}}}, "trust"),
        ({"name": "fw1", "members": {"fw2": {"key": KEY, "max_alive": 0}}}, "max_alive"),
        ({"name": "fw1", "members": {"fw2": {}}}, "key"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Fleet.model_validate(section)


CROWDSEC = {"url": "http://127.0.0.1:8080/", "credentials": "/etc/sentryfw/crowdsec"}


def test_crowdsec_is_one_of_the_others_and_needs_no_name_of_ours() -> None:
    assert Fleet().others == {}
    alone = Fleet.model_validate({"crowdsec": CROWDSEC})
    assert list(alone.others) == ["crowdsec"]
    both = {"name": "fw1", "members": {"fw2": {"key": KEY}}, "crowdsec": CROWDSEC, "agree": 2}
    fleet = Fleet.model_validate(both)
    assert list(fleet.others) == ["fw2", "crowdsec"]
    assert (fleet.mirrors, fleet.takes_networks) == (False, False)
    full = Fleet.model_validate({"crowdsec": {**CROWDSEC, "trust": "full"}})
    assert (full.mirrors, full.takes_networks) == (False, True), "nothing is mirrored to it"


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"url": CROWDSEC["url"]}, "go together"),
        ({"credentials": CROWDSEC["credentials"]}, "go together"),
        ({**CROWDSEC, "url": "http://lapi.example.org/"}, "write https"),
        ({**CROWDSEC, "url": "https://lapi.example.org/{token}"}, "URL of the local API"),
        ({**CROWDSEC, "name": ""}, "it has a name"), ({**CROWDSEC, "name": "A B"}, "not a name"),
        ({**CROWDSEC, "name": "fw2"}, "fw2 is a firewall"),
        ({**CROWDSEC, "name": "fw1"}, "fw1 is a firewall"),
        ({**CROWDSEC, "max_time": "5h"}, "max_time"), ({**CROWDSEC, "max_time": 1}, "max_time"),
        ({**CROWDSEC, "interval": 0}, "interval"), ({**CROWDSEC, "trust": "all"}, "trust"),
    ],
)  # fmt: skip
def test_a_wrong_section_of_crowdsec_is_refused(section: dict[str, Any], problem: str) -> None:
    fleet = {"name": "fw1", "members": {"fw2": {"key": KEY}}, "crowdsec": section}
    with pytest.raises(ValidationError, match=problem):
        Fleet.model_validate(fleet)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediss://192.0.2.1", HubAddress("192.0.2.1", 6379, is_encrypted=True)),
        ("rediss://[2001:db8::1]:6380", HubAddress("2001:db8::1", 6380, is_encrypted=True)),
        ("redis://127.0.0.1:7000", HubAddress("127.0.0.1", 7000, is_encrypted=False)),
        ("redis://localhost", HubAddress("localhost", 6379, is_encrypted=False)),
        ("unix:///run/r.sock", HubAddress("", 0, is_encrypted=False, socket="/run/r.sock")),
    ],
)
def test_a_hub_is_a_url(url: str, expected: HubAddress) -> None:
    assert parse_hub(url) == expected


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"url": "http://192.0.2.1"}, "is not a hub"),
        ({"url": "rediss://"}, "is not a hub"),
        ({"url": "rediss://h:99999"}, "is not a hub"),
        ({"url": "rediss://u:p@h"}, "user and password_file are keys"),
        ({"url": "rediss://h/3"}, "user and password_file are keys"),
        ({"url": "redis://192.0.2.1"}, "is not encrypted"),
        ({"url": "redis://hub.example.org"}, "is not encrypted"),
        ({"url": "rediss://h", "sentinels": ["rediss://s"]}, "exclude each other"),
        ({"sentinels": [""]}, "a Sentinel has a URL"),
        ({"url": "rediss://h", "certificate": "/c.pem"}, "belong together"),
        ({"url": "rediss://h", "keep": 10}, "keep"),
    ],
)
def test_a_wrong_hub_is_refused(section: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FleetHub.model_validate(section)


def test_a_hub_needs_a_name_of_this_firewall() -> None:
    with pytest.raises(ValidationError, match="a hub needs a name"):
        Fleet.model_validate({"hub": {"url": "rediss://h"}})


def test_sentinels_are_the_addresses_where_there_are_some() -> None:
    hub = FleetHub.model_validate({"sentinels": ["rediss://a", "rediss://b"]})
    assert hub.is_on
    assert [address.host for address in hub.addresses] == ["a", "b"]
    assert not FleetHub().is_on
