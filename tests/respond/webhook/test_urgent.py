"""Events that are urgent, and those that are not."""

import pytest

from sentryfw.respond.webhook.urgent import URGENT, urgent_text


@pytest.mark.parametrize("kind", URGENT)
def test_an_urgent_event_is_a_sentence_with_its_fields(kind: str) -> None:
    assert (
        urgent_text(kind, {"lost": 7, "where": "ledger"})
        == f"{URGENT[kind]} (lost 7, where ledger)"
    )
    assert urgent_text(kind, {}) == URGENT[kind]


@pytest.mark.parametrize("kind", ["start", "stop", "reload", "healed", "unblocked", "flood", ""])
def test_the_everyday_is_not_urgent(kind: str) -> None:
    assert urgent_text(kind, {"lost": 7}) == ""
