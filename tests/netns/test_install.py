"""Install, update, uninstall: in a kernel, beside other people's tables."""

import json
import re
from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.config import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.netfilter import divert, features
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.install import Installed, install, plan, uninstall
from sentryfw.netfilter.table import COMMENT
from support.frames import RST
from support.lab import ATTACKER, BYSTANDER, LISTED, Lab
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

NEIGHBOUR: Final = """
table ip filter {
    chain input { type filter hook input priority 0; tcp dport 25 drop; }
}
table inet other {
    set s { type ipv4_addr; elements = { 198.18.9.9 }; }
}
"""
OLDER: Final = """
table inet sentryfw {
    comment "SentryFW schema 0"
    set block4 { type ipv4_addr; flags timeout; }
    set block6 { type ipv6_addr; flags timeout; }
    set block_net4 { type ipv4_addr; flags interval, timeout; }
    set forgotten { type ipv4_addr; }
    chain old_chain { }
}
add element inet sentryfw block4 { 198.18.0.2 timeout 1h expires 20m, 198.18.0.9 }
add element inet sentryfw block6 { 2001:2:: timeout 2h expires 90m }
add element inet sentryfw block_net4 { 198.18.64.0/20 timeout 3h expires 2h }
"""


def _install(lab: Lab, settings: Config | None = None) -> Installed:
    return lab.victim.call(lambda: install(lab.table, settings or Config(), []))


def _uninstall(lab: Lab) -> bool:
    return lab.victim.call(lambda: uninstall(lab.table))


def test_install_makes_the_table_and_the_queue_rule(lab: Lab) -> None:
    installed = _install(lab)
    assert not installed.plan.update
    assert lab.table.comment() == COMMENT
    probed = lab.victim.call(features.probe)
    assert divert.active(lab.table) == installed.plan.divert == features.pick_divert(probed)[0]
    assert list(lab.table.rule_expressions("judge"))[-1] in ("queue", "target")


def test_a_plan_changes_nothing(lab: Lab) -> None:
    planned = lab.victim.call(lambda: plan(lab.table, Config(), []))
    assert "chain divert_input" in planned.ruleset.script
    assert lab.nft("list ruleset") == ""


def test_uninstall_leaves_nothing_of_ours_and_everything_else(lab: Lab) -> None:
    lab.nft(NEIGHBOUR)
    before = lab.nft("list ruleset")
    _install(lab)
    assert lab.nft("list ruleset") != before
    assert _uninstall(lab)
    assert lab.nft("list ruleset") == before
    assert not _uninstall(lab)


def test_an_update_keeps_blocks_partners_and_counters(lab: Lab) -> None:
    _install(lab)
    source = parse_source(ATTACKER[4])
    lab.table.block([(source, 600), (parse_source("2001:2:0:1::/64"), 600)])
    lab.victim.call(lambda: lab.table.block_network(ip_network("198.18.64.0/20"), 600))
    lab.nft(f"add element inet sentryfw partner4 {{ {BYSTANDER[4]} timeout 1h }}")
    lab.probe(BYSTANDER[4], *range(7001, 7004), flags=RST)
    wait_for(lambda: lab.count("backscatter") == 3, "three strays")
    before = {blocked.address: blocked.expires for blocked in lab.victim.call(lab.table.blocks)}
    installed = _install(lab, Config.model_validate({"watch": {"listed_tcp": [25]}}))
    assert installed.plan.update
    assert installed.kept == 3
    after = {blocked.address: blocked.expires for blocked in lab.victim.call(lab.table.blocks)}
    assert set(after) == set(before) == {ATTACKER[4], "2001:2:0:1::/64", "198.18.64.0/20"}
    assert all(0 < after[address] <= before[address] for address in after)
    assert lab.elements("partner4") == {BYSTANDER[4]}
    assert lab.elements("listed_tcp") == {25}
    assert lab.count("backscatter") == 3


def test_an_update_enforces_blocks_all_the_while(lab: Lab) -> None:
    lab.listen(LISTED)
    _install(lab)
    lab.table.block([(parse_source(ATTACKER[4]), 600)])
    _install(lab)
    assert not lab.answers(ATTACKER[4])


def test_updating_twice_gives_the_same_table(lab: Lab) -> None:
    _install(lab)
    once = lab.nft("--debug=netlink", "list table inet sentryfw")
    _install(lab)
    assert _without_handles(lab.nft("--debug=netlink", "list table inet sentryfw")) == (
        _without_handles(once)
    )


def _without_handles(listing: str) -> str:
    return re.sub(r"^inet sentryfw (\w+)( \d+)+", r"inet sentryfw \1", listing, flags=re.MULTILINE)


def test_an_update_replaces_what_is_never_blocked(lab: Lab) -> None:
    def load(network: str) -> None:
        protected = [Protected(ip_network(network), "test")]
        lab.victim.call(lambda: install(lab.table, Config(), protected))

    load("198.18.7.0/24")
    load("198.18.8.0/24")
    listed = lab.nft("list set inet sentryfw never_block4")
    assert "198.18.8.0/24" in listed
    assert "198.18.7.0/24" not in listed


def test_a_table_of_an_older_schema_is_made_anew_with_its_blocks(lab: Lab) -> None:
    lab.nft(OLDER)
    installed = _install(lab)
    assert not installed.plan.update
    assert lab.table.comment() == COMMENT
    blocks = {b.address: (b.timeout, b.expires) for b in lab.victim.call(lab.table.blocks)}
    assert {address: timeout for address, (timeout, _) in blocks.items()} == {
        "198.18.0.2": 3600, "198.18.0.9": 0, "2001:2::/64": 7200, "198.18.64.0/20": 10800,
    }  # fmt: skip
    for address, left in (("198.18.0.2", 1200), ("2001:2::/64", 5400), ("198.18.64.0/20", 7200)):
        assert left - 10 < blocks[address][1] <= left
    tables = json.loads(lab.victim.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    assert not [item for item in tables if item.get("set", {}).get("name") == "forgotten"]


@pytest.mark.parametrize("comment", ['comment "mine"', ""], ids=["other-comment", "no-comment"])
def test_a_foreign_table_of_our_name_is_refused_and_unchanged(lab: Lab, comment: str) -> None:
    lab.nft(f"table inet sentryfw {{ {comment}\n chain c {{ }}\n}}")
    before = lab.nft("list ruleset")
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        _install(lab)
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        _uninstall(lab)
    assert lab.nft("list ruleset") == before


def test_rules_that_were_flushed_are_back_after_an_install(lab: Lab) -> None:
    _install(lab)
    whole = lab.nft("-s", "list table inet sentryfw")
    lab.nft("flush table inet sentryfw")
    assert divert.active(lab.table) is None
    _install(lab)
    assert lab.nft("-s", "list table inet sentryfw") == whole
    assert divert.active(lab.table) is not None


def test_a_chain_or_set_that_was_deleted_is_back_after_an_install(lab: Lab) -> None:
    _install(lab)
    lab.nft("flush table inet sentryfw")
    lab.nft("delete chain inet sentryfw late_drop")
    lab.nft("delete set inet sentryfw block_net6")
    _install(lab)
    listed = lab.nft("list table inet sentryfw")
    assert "chain late_drop" in listed
    assert "set block_net6" in listed
