"""Lists in JSON: STIX indicators, CrowdSec's decisions."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.tools.export.blocks import ExportedBlock
from sentryfw.tools.export.firewall import stix
from sentryfw.tools.lists.entries import ParsedList
from sentryfw.tools.lists.json_lists import crowdsec_list, stix_list
from support.entries import BLOCK

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


def _bundle(*objects: Any) -> str:
    return json.dumps({"type": "bundle", "objects": list(objects)})


def _indicator(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "indicator", "pattern_type": "stix", "pattern": pattern, **more}


def _found(parsed: ParsedList) -> list[tuple[str, str, float | None]]:
    return [(entry.place, str(entry.network), entry.seconds) for entry in parsed.entries]


def test_indicators_of_addresses_and_networks() -> None:
    text = _bundle(
        {"type": "identity"},
        _indicator("[ipv4-addr:value = '192.0.2.1']", valid_until="2026-11-26T13:00:00Z"),
        _indicator(
            "[ ipv4-addr:value ISSUBSET '198.51.100.0/24' OR ipv6-addr:value='2001:db8::1' ]"
        ),
        _indicator("[ipv4-addr:value = '192.0.2.4']", valid_until="2026-11-26T14:00:00+01:00"),
        _indicator("[ipv4-addr:value = '192.0.2.2']", revoked=True),
        _indicator("[ipv4-addr:value = '192.0.2.3']", valid_until="2026-11-26T11:00:00Z"),
    )
    parsed = stix_list(text, NOW)
    assert _found(parsed) == [
        ("object 2", "192.0.2.1/32", 3600.0), ("object 3", "198.51.100.0/24", None),
        ("object 3", "2001:db8::1/128", None), ("object 4", "192.0.2.4/32", 3600.0),
    ]  # fmt: skip
    assert parsed.left_out == {"revoked": 1, "their time is over": 1}
    assert parsed.bad == []


def test_our_own_indicators_are_read_back() -> None:
    blocks = [
        ExportedBlock("192.0.2.1", 4, 60.0, 0, BLOCK),
        ExportedBlock("2001:db8::/64", 6, 60.0, 0, BLOCK),
    ]
    parsed = stix_list("".join(stix(blocks)), NOW)
    assert parsed.bad == []
    assert {str(entry.network) for entry in parsed.entries} >= {"192.0.2.1/32", "2001:db8::/64"}


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ('{\n"objects": [', "line 2", "not JSON"),
        ("[1", "line 1", "not JSON"),
        ("{}", "line 1", "not a STIX bundle"),
        ("3", "line 1", "not a STIX bundle"),
        (_bundle(_indicator("[url:value = 'a']")), "object 1", "not a pattern of addresses"),
        (_bundle(_indicator("[ipv4-addr:value = 'a']")), "object 1", "neither an address"),
        (
            _bundle(_indicator("[ipv4-addr:value = '1.2.3.4' AND ipv4-addr:value = '1.2.3.5']")),
            "object 1", "not a pattern of addresses",
        ),
        (_bundle({"type": "indicator"}), "object 1", "not a pattern of addresses"),
        (
            _bundle(_indicator("[ipv4-addr:value = '192.0.2.1']", valid_until="soon")), "object 1",
            "not a time",
        ),
    ],
)  # fmt: skip
def test_faults_of_stix(text: str, place: str, fault: str) -> None:
    [bad] = stix_list(text, NOW).bad
    assert bad.place == place
    assert fault in bad.fault


def _decision(value: str, **more: Any) -> dict[str, Any]:
    return {
        "origin": "CAPI", "scope": "Ip", "type": "ban", "value": value, "duration": "3h59m12.5s",
        **more,
    }  # fmt: skip


SOME = [
    _decision("192.0.2.1"),
    _decision("198.51.100.0/24", scope="Range"),
    _decision("192.0.2.2", type="captcha"),
    _decision("FR", scope="Country"),
    _decision("192.0.2.3", simulated=True),
    _decision("192.0.2.4", origin="sentryfw"),
    _decision("192.0.2.5", duration="-1m2s"),
]
LEFT_OUT = {
    "not a ban of an address or a network": 2, "simulated": 1,
    "blocks that SentryFW pushed there": 1, "their time is over": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [SOME, {"new": SOME, "deleted": [_decision("192.0.2.9")]}, [{"id": 1, "decisions": SOME}]],
    ids=["decisions", "stream", "cscli"],
)
def test_decisions_in_three_forms(document: Any) -> None:
    parsed = crowdsec_list(json.dumps(document))
    found = [(str(entry.network), entry.seconds) for entry in parsed.entries]
    assert found == [("192.0.2.1/32", 14352.5), ("198.51.100.0/24", 14352.5)]
    assert (parsed.left_out, parsed.bad) == (LEFT_OUT, [])


@pytest.mark.parametrize("text", ["null", "[]", '{"new": null}', '[{"id": 1, "decisions": null}]'])
def test_no_decisions(text: str) -> None:
    assert crowdsec_list(text) == ParsedList([], [], {})


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ("[", "line 1", "not JSON"),
        ("3", "line 1", "not a list of decisions"),
        ("[3]", "object 1", "not a decision"),
        (json.dumps([_decision("192.0.2.1", duration="soon")]), "object 1", "not a duration"),
        (json.dumps([_decision("192.0.2.1", duration="")]), "object 1", "not a duration"),
        (json.dumps([_decision("x")]), "object 1", "'x' is neither"),
    ],
)
def test_faults_of_decisions(text: str, place: str, fault: str) -> None:
    [bad] = crowdsec_list(text).bad
    assert bad.place == place
    assert fault in bad.fault


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner)
    | st.dictionaries(
        st.sampled_from(
            ["objects", "type", "pattern", "valid_until", "new", "decisions", "value", "duration",
             "scope", "origin"]
        )
        | st.text(),
        inner | st.sampled_from(["indicator", "ban", "Ip", "[ipv4-addr:value = '192.0.2.1']"]),
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_no_document_raises(document: Any) -> None:
    text = json.dumps(document)
    assert isinstance(stix_list(text, NOW), ParsedList)
    assert isinstance(crowdsec_list(text), ParsedList)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(stix_list(text, NOW), ParsedList)
    assert isinstance(crowdsec_list(text), ParsedList)
