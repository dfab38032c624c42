"""Statements out of hostile items; each attempt with its effects is in test_exchange.py."""

from ipaddress import ip_network
from typing import Any

import pytest

from sentryfw.config.fleet import Fleet
from sentryfw.config.model import Config
from sentryfw.daemon.fleet.statements import Statements
from sentryfw.fleet.entry import Entry
from sentryfw.fleet.signature import Signer

MEMBER = Signer(b"1" * 32)
ENTRY = Entry(
    op="block", member="fw1", seq=1, network=ip_network("192.0.2.7/32"), duration_s=60,
    evidence="proven", scan="decoy-scan", reason="why", at=1,
)  # fmt: skip


def read(item: Any) -> tuple[object, dict[str, int]]:
    fleet = Fleet.model_validate(
        {"name": "us", "members": {"fw1": {"key": MEMBER.public_key().hex()}}}
    )
    statements = Statements(Config(fleet=fleet))
    return statements.read(item), dict(statements.unreadable)


def signed(entry: Entry) -> dict[str, str]:
    raw = entry.encode()
    return {"entry": raw.decode(), "signature": MEMBER.sign(raw).hex()}


def test_a_member_s_statement_is_read() -> None:
    assert read(signed(ENTRY)) == (ENTRY, {})


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (7, "not-an-object"),
        ({**signed(ENTRY), "signature": "00"}, "bad-signature"),
        (signed(ENTRY._replace(member="us")), "echo"),
        (signed(ENTRY._replace(member="fw2")), "unknown-member"),
    ],
)
def test_others_are_counted_by_the_reason(item: Any, why: str) -> None:
    assert read(item) == (why, {why: 1})
