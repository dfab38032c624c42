"""explain: the story of an address; tests/kernel/test_explain.py has the rest."""

import re
from typing import Any

from sentryfw.cli.commands.explain import answer, is_known, story
from sentryfw.origin.model import NOWHERE

PROBE = {"at": "2026-01-01T10:00:00.1+0000", "kind": "syn", "target": "198.18.0.1 tcp/23",
         "forgeable": True, "listed": False}  # fmt: skip
BLOCK = {"id": "b1", "at": "2026-01-01T10:00:01+0000", "ended_at": "2026-01-01T11:00:01+0000",
         "state": "expired", "timeout_s": 3600.0, "reason": "3 targets", "offence": 2,
         "forgeable": True, "kinds": ["syn"], "scan": "portscan",
         "evidence": [PROBE]}  # fmt: skip
REFUSAL = {"id": "r1", "at": "2026-01-01T10:00:02+0000", "rule": "a partner", "kinds": ["ack"],
           "scan": "portscan", "forgeable": True, "timeout_s": 0.0,
           "evidence": [{**PROBE, "listed": True}]}  # fmt: skip


def found(**more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "blocked": False, "never_block": [], "partner": False, "suspect": False, "blocks": [],
        "refusals": [], "probes": [], "reactions": [], "origin": NOWHERE.item(),
    }  # fmt: skip
    return {**empty, **more}


def test_a_block_has_its_probes_before_it_and_its_end_after_it() -> None:
    rows = story(found(blocks=[BLOCK]))
    assert [row["what"] for row in rows] == ["probe", "blocked for 1h", "expired"]
    assert rows[0]["why"] == "led to the block"
    assert rows[1]["why"] == "3 targets, offence 2; the source could be forged"
    assert {row["event"] for row in rows} == {"b1"}


def test_a_block_without_a_timeout_has_no_duration() -> None:
    [block] = story(found(blocks=[{**BLOCK, "timeout_s": 0.0, "ended_at": None, "evidence": []}]))
    assert block["what"] == "blocked forever"


def test_a_probe_of_two_refusals_appears_once() -> None:
    rows = story(found(refusals=[REFUSAL, {**REFUSAL, "at": "2026-01-01T10:01:02+0000"}]))
    assert [row["what"] for row in rows] == ["probe", "not blocked", "not blocked"]
    assert rows[0]["why"] == "led to no block, to a listed port: counts half"


def test_a_confinement_is_shown_as_one() -> None:
    rows = story(found(refusals=[{**REFUSAL, "timeout_s": 3600.0, "offence": 1}]))
    assert [row["what"] for row in rows] == ["probe", "confined"]


HEAD = {
    "address": "2001:db8::1", "source": "2001:db8::/64", "because": "blocked: portscan by nmap",
    "timeout_s": 3600.0, "expires_in_s": 61.0, "dropped_packets": 1, "offences": 2,
    "confined": False,
}  # fmt: skip


def test_the_answer_is_sentences_with_the_next_step() -> None:
    first, lasts, end, allow = answer(found(**HEAD, blocked=True))
    assert first == ("2001:db8::1 (its source is 2001:db8::/64) is blocked: portscan by nmap.")
    assert re.fullmatch(
        r"It is blocked until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+, 1m1s from now; offence 2\."
        r" 1 packet of it dropped so far\.",
        lasts,
    )
    assert end == "To end that: sentryfw unblock 2001:db8::/64"
    assert allow == "Never to block it: sentryfw allow add 2001:db8::/64"


def test_the_answer_for_a_block_without_end_and_for_none() -> None:
    forever = answer(found(**HEAD | {"expires_in_s": None}, blocked=True))
    assert "It is blocked until you unblock it; offence 2" in forever[1]
    head = HEAD | {"address": "192.0.2.1", "source": "192.0.2.1", "timeout_s": None,
                   "because": "not blocked: nothing is known of it"}  # fmt: skip
    assert answer(found(**head)) == ["192.0.2.1 is not blocked: nothing is known of it."]
    more = answer(found(**head | {"partner": True, "suspect": True}))
    assert [line[:17] for line in more[1:]] == ["It is a partner: ", "It is a suspect: "]


def test_an_address_is_known_by_a_state_or_an_event() -> None:
    assert not is_known(found())
    assert is_known(found(suspect=True))
    assert is_known(found(probes=[PROBE]))
