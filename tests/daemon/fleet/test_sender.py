"""Our blocks as signed entries."""

from pathlib import Path

import pytest

from sentryfw.config.fleet import Fleet
from sentryfw.config.model import Config, Paths
from sentryfw.daemon.fleet.sender import Sender
from sentryfw.errors import SentryError
from sentryfw.fleet.entry import parse
from sentryfw.fleet.seal import SEAL_COUNT, parse_seal
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


def test_each_part_has_a_seal_however_its_entries_are_asked_for(config: Config) -> None:
    key = bytes.fromhex(public_key(config))
    with Ledger(config.paths.ledger) as ledger:
        outbox.enable(ledger, 1_800_000_000)
        rows = [manual_entry(f"192.0.2.{n}", 4, 60.0, 1_800_000_000) for n in range(1, 201)]
        ledger.add(rows)
    sender, items, after = Sender(config), [], 0
    while part := list(sender.outgoing({"after": after})):
        items += part
        after = part[-1]["seq"]
    ends = [item for item in items if "seal" in item]
    assert [item["seq"] % SEAL_COUNT for item in ends] == [0]
    seal = parse_seal(ends[0]["seal"]["entry"].encode())
    assert verify(key, seal.encode(), bytes.fromhex(ends[0]["seal"]["signature"]))
    texts = [item["entry"] for item in items if seal.first <= item["seq"] <= seal.last]
    assert seal.covers(texts)
    alone = next(Sender(config).outgoing({"after": seal.last - 1}))
    assert alone == ends[0], "the same one, though only its last entry is asked for"


def test_a_part_of_one_entry_has_no_seal(config: Config) -> None:
    public_key(config)
    with Ledger(config.paths.ledger) as ledger:
        outbox.enable(ledger, 1_800_000_000)
        ledger.database.execute("UPDATE sqlite_sequence SET seq = ?", (SEAL_COUNT * 10 - 1,))
        ledger.add([manual_entry("192.0.2.1", 4, 60.0, 1_800_000_000)])
    [item] = Sender(config).outgoing({"after": 0})
    assert item["seq"] == SEAL_COUNT * 10
    assert "seal" not in item


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
