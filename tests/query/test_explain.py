"""The data of explain, on a table that is a fake."""

import time
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentryfw import config as sentryfw_config
from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import UsageError
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.netlink.set_elements import Element
from sentryfw.query import explain
from sentryfw.query.explain import RULES, past_blocks, subject, whole
from sentryfw.record.fleet import held
from sentryfw.record.ledger import Ledger
from sentryfw.text import local_time
from support.entries import BLOCK, REFUSAL

NOW = time.time()
ADDRESS = "192.0.2.7"
TAKEN = BLOCK._replace(address=ADDRESS, blocked_at=NOW - 60, first_seen=NOW - 70)
LIVE = Blocked(ADDRESS, 4, 3600.0, 3540.0, 2, 80)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect no addresses of this host: only the configured ones are never blocked."""
    monkeypatch.setattr(explain, "never_block", lambda *_: [])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    paths = f'[paths]\nstate = "{tmp_path}"\nruntime = "{tmp_path}"\nlog = "{tmp_path}"\n'
    return sentryfw_config.parse(paths.encode(), "test")


def table(
    block: Blocked | None = None, networks: tuple[Blocked, ...] = (),
    never_block: tuple[str, ...] = (), *, installed: bool = True,
    foreign: Element | None = None,
) -> Any:  # fmt: skip
    return SimpleNamespace(
        is_installed=lambda: installed,
        sets=SimpleNamespace(
            find=lambda _: block,
            blocked_networks=lambda: iter(networks),
            never_blocked=lambda: [ip_network(text) for text in never_block],
            is_partner=lambda _: False,
            is_suspect=lambda _: False,
        ),
        decisions=SimpleNamespace(find=lambda _: None, find_of_fleet=lambda _: foreign),
        mirror=SimpleNamespace(networks=lambda: iter(())),
    )


def explained(config: Config, kernel: Any, text: str = ADDRESS) -> dict[str, Any]:
    return whole(explain.parts(config, kernel, text, pytest.fail))


def record(config: Config, *entries: Any) -> None:
    with Ledger(config.paths.ledger) as ledger:
        ledger.add(list(entries), [])


@pytest.mark.parametrize(
    ("text", "name", "is_source"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7/32", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.2.0/24", False),
        ("2001:db8::1", "2001:db8::/64", True),
        ("2001:db8::/64", "2001:db8::/64", True),
        ("2001:db8::/56", "2001:db8::/56", False),
        ("fe80::1", "fe80::1", True),
    ],
)
def test_a_subject_is_a_source_or_a_network(text: str, name: str, is_source: bool) -> None:  # noqa: FBT001
    found = subject(text)
    assert found.name == name
    assert (found.source is not None) == is_source


def test_other_text_is_not_a_subject() -> None:
    with pytest.raises(UsageError, match="neither an address nor a network"):
        subject("example.org")


def test_a_live_block_is_explained_by_its_row(config: Config) -> None:
    record(config, TAKEN)
    found = explained(config, table(LIVE))
    assert found["because"] == f"blocked: portscan (syn, udp): {BLOCK.reason}"
    assert (found["blocked"], found["expires_in_s"], found["dropped_bytes"]) == (True, 3540.0, 80)
    [block] = found["blocks"]
    assert (block["state"], block["ended_at"], block["capture"]) == ("blocked", None, False)
    assert [entry.address for entry in past_blocks(config, ADDRESS)] == [ADDRESS]


def test_a_live_block_without_a_row(config: Config) -> None:
    found = explained(config, table(LIVE))
    assert found["because"] == "blocked, without a reason in the ledger"
    assert past_blocks(config, ADDRESS) == []


def test_an_expired_block_has_its_end(config: Config) -> None:
    record(config, TAKEN._replace(timeout_s=30.0))
    found = explained(config, table())
    [block] = found["blocks"]
    assert block["state"] == "expired"
    assert found["because"] == f"not blocked any more: expired at {local_time(block['ended_at'])}"


def test_a_block_that_was_ended_by_hand(config: Config) -> None:
    record(config, TAKEN)
    with Ledger(config.paths.ledger) as ledger:
        ledger.unblocked(ADDRESS, NOW - 10)
    assert explained(config, table())["blocks"][0]["state"] == "unblocked"


def test_a_block_that_the_kernel_lost(config: Config) -> None:
    record(config, TAKEN)
    assert explained(config, table())["blocks"][0]["state"] == "no longer in the kernel"


def test_a_refusal_is_explained_by_its_rule(config: Config) -> None:
    record(config, REFUSAL._replace(address=ADDRESS, blocked_at=NOW - 5))
    found = explained(config, table())
    assert found["because"] == (
        f"not blocked: portscan (syn, udp): 3 distinct targets, but {RULES['partner']}"
    )
    assert found["refusals"][0]["rule"] == RULES["partner"]


def test_a_blocked_network_around_an_address_is_named(config: Config) -> None:
    around = LIVE._replace(address="192.0.2.0/24")
    found = explained(config, table(networks=(around,)))
    assert found["because"] == "blocked within 192.0.2.0/24"
    assert (found["blocked"], found["within"]) == (True, ["192.0.2.0/24"])


def test_a_blocked_network_is_found_by_its_own_name(config: Config) -> None:
    own = LIVE._replace(address="192.0.2.0/24")
    around = LIVE._replace(address="192.0.0.0/16")
    found = explained(config, table(networks=(own, around)), "192.0.2.0/24")
    assert found["dropped_packets"] == 2
    assert found["within"] == ["192.0.0.0/16"]


def test_a_never_block_element_added_by_hand_is_named(config: Config) -> None:
    found = explained(config, table(LIVE, never_block=("192.0.2.0/28",)))
    assert found["because"] == (
        "never blocked: added to the kernel's set by hand (192.0.2.0/28);"
        " nft accepts it although it is in a block set"
    )


def test_an_unknown_address(config: Config) -> None:
    assert explained(config, table())["because"] == "not blocked: nothing is known of it"
    uninstalled = explained(config, table(installed=False))
    assert uninstalled["because"] == "not blocked: nothing is known of it, nor installed"
    assert [uninstalled[name] for name in explain.LISTS] == [[], [], [], []]


def test_a_ledger_that_cannot_be_read_is_a_warning(config: Config) -> None:
    config.paths.ledger.write_bytes(b"not a database" * 100)
    warnings: list[str] = []
    found = whole(explain.parts(config, table(LIVE), ADDRESS, warnings.append))
    assert found["blocked"]
    assert "only the kernel's state is shown" in warnings[0]


def test_the_rules_cover_every_reason_of_a_refusal() -> None:
    assert {"never_block", "partner", "observe", "flood", "command"} < RULES.keys()


def test_a_source_is_parsed_as_the_sets_hold_it() -> None:
    assert subject("2001:db8::9").source == parse_source("2001:db8::/64")
    assert subject("::ffff:192.0.2.1").source == parse_source("192.0.2.1")
    assert str(subject("::FFFF:C000:200/120").network) == "192.0.2.0/24"


# --- the word of other members

WORD = held.Held(
    member="fw1", address=ADDRESS, effect="block", evidence="proven", scan="decoy-scan",
    reason="spoke with the decoy", seq=1, at=NOW, ends_at=NOW + 86400,
)  # fmt: skip
FOREIGN = Element(b"\xc0\x00\x02\x07", 3600.0, 600.0, 3, 90)


def _hold(config: Config, *rows: held.Held) -> None:
    with Ledger(config.paths.ledger) as ledger:
        held.hold(ledger, rows)


def test_a_foreign_block_names_member_and_evidence(config: Config) -> None:
    _hold(config, WORD)
    found = explained(config, table(foreign=FOREIGN))
    assert found["blocked"]
    assert found["because"] == "blocked by the word of fw1 (proven): spoke with the decoy"
    [member] = found["members"]
    assert (member["member"], member["effect"], member["evidence"]) == ("fw1", "block", "proven")
    assert (found["timeout_s"], found["dropped_packets"]) == (3600.0, 3)


def test_a_word_that_only_defers_blocks_nothing(config: Config) -> None:
    _hold(config, WORD._replace(effect="weigh", evidence="forgeable"))
    found = explained(config, table())
    assert not found["blocked"]
    assert found["because"].startswith("not blocked, but one probe defers it, by the word of fw1")


def test_a_word_that_is_only_shown_changes_no_reason(config: Config) -> None:
    _hold(config, WORD._replace(effect="show"))
    found = explained(config, table(LIVE))
    assert found["because"] == "blocked, without a reason in the ledger"
    assert [member["effect"] for member in found["members"]] == ["show"]


def test_an_own_block_is_the_reason_beside_a_foreign_one(config: Config) -> None:
    _hold(config, WORD)
    assert "fw1" not in explained(config, table(LIVE, foreign=FOREIGN))["because"]


def test_a_foreign_block_without_a_row_names_no_member(config: Config) -> None:
    found = explained(config, table(foreign=FOREIGN))
    assert found["because"] == "blocked by the word of a member that is not in the ledger"
