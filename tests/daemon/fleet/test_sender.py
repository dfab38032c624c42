"""Our blocks as signed entries."""

from pathlib import Path

import pytest

from sentryfw.config.fleet import Fleet
from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet.sender import Sender
from sentryfw.errors import SentryError
from sentryfw.fleet.entry import parse
from sentryfw.fleet.signature import verify
from sentryfw.record.fleet import outbox
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.setup.fleet.signing_key import public_key
from support.entries import BLOCK, SIX


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(paths=Paths(state=tmp_path), fleet=Fleet(name="fw1"))


def test_blocks_are_sent_with_their_evidence_and_equal_bytes_each_time(config: Config) -> None:
    key = public_key(config)
    with Ledger(config.paths.ledger) as ledger:
        outbox.enable(ledger, 1_800_000_000)
        proven = SIX._replace(forgeable=False, reason="sch\u00f6n\n" * 100)
        ledger.add([BLOCK, proven, manual_entry("192.0.2.9", 4, 0.0, 1_800_000_000)])
    sender = Sender(config)
    sent = list(sender.outgoing({"after": 0}))
    assert sent == list(Sender(config).outgoing({"after": 0}))
    for item in sent:
        signature = bytes.fromhex(item["signature"])
        assert verify(bytes.fromhex(key), item["entry"].encode(), signature)
    entries = [parse(item["entry"].encode()) for item in sent]
    assert [(entry.address, entry.evidence, entry.duration_s) for entry in entries] == [
        ("198.18.0.2", "forgeable", 3600), ("2001:2::/64", "proven", 3600),
        ("192.0.2.9", "hand", 0),
    ]  # fmt: skip
    assert {entry.member for entry in entries} == {"fw1"}
    assert list(sender.outgoing({"after": sent[-1]["seq"]})) == []


@pytest.mark.parametrize("after", [None, -1, True, "1"])
def test_a_wrong_number_is_refused(config: Config, after: object) -> None:
    with pytest.raises(SentryError, match="after is the number"):
        next(Sender(config).outgoing({"after": after}))


def test_without_a_key_the_error_names_the_command(config: Config) -> None:
    with pytest.raises(SentryError, match="sentryfw fleet key"):
        next(Sender(config).outgoing({"after": 0}))
    config.paths.fleet_key.write_text("xx")
    with pytest.raises(SentryError, match=r"fleet\.key"):
        next(Sender(config).outgoing({"after": 0}))
