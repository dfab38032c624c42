"""Install, update and uninstall in a kernel, next to other tables."""

import json
import re
from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.host.protected import Protected
from sentryfw.netfilter import features, queue_rule
from sentryfw.netfilter.install import Installed, install, plan, uninstall
from sentryfw.netfilter.schema import COMMENT
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
    set partner4 { type ipv4_addr; flags dynamic, timeout; timeout 1d; }
    chain old_chain { }
}
add element inet sentryfw block4 { 198.18.0.2 timeout 1h expires 20m, 198.18.0.9 }
add element inet sentryfw block6 { 2001:2:: timeout 2h expires 90m }
add element inet sentryfw block_net4 { 198.18.64.0/20 timeout 3h expires 2h }
add element inet sentryfw partner4 { 198.18.0.7 expires 5h }
"""


def _install(lab: Lab, config: Config | None = None) -> Installed:
    return lab.victim.call(lambda: install(lab.table, config or Config(), []))


def _uninstall(lab: Lab) -> bool:
    return lab.victim.call(lambda: uninstall(lab.table))


def test_install_makes_the_table_and_the_queue_rule(lab: Lab) -> None:
    installed = _install(lab)
    assert not installed.plan.update
    assert lab.table.comment() == COMMENT
    probed = lab.victim.call(features.probe)
    assert queue_rule.active(lab.table) == installed.plan.divert == features.pick_divert(probed)[0]
    assert list(lab.table.rule_expressions("judge"))[-1] in ("queue", "target")


def test_a_plan_changes_nothing(lab: Lab) -> None:
    planned = lab.victim.call(lambda: plan(lab.table, Config(), []))
    assert "chain divert_input" in planned.script
    assert lab.nft("list ruleset") == ""


def test_uninstall_removes_our_table_and_nothing_else(lab: Lab) -> None:
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
    lab.table.sets.block([(source, 600), (parse_source("2001:2:0:1::/64"), 600)])
    lab.victim.call(lambda: lab.table.sets.block_network(ip_network("198.18.64.0/20"), 600))
    lab.nft(f"add element inet sentryfw partner4 {{ {BYSTANDER[4]} timeout 1h }}")
    lab.probe(BYSTANDER[4], *range(7001, 7004), flags=RST)
    wait_for(lambda: lab.count("backscatter") == 3, "three strays")
    before = {
        blocked.address: blocked.expires for blocked in lab.victim.call(lab.table.sets.blocks)
    }
    installed = _install(lab, Config.model_validate({"watch": {"listed_tcp": [25]}}))
    assert installed.plan.update
    assert installed.kept == 3
    after = {blocked.address: blocked.expires for blocked in lab.victim.call(lab.table.sets.blocks)}
    assert set(after) == set(before) == {ATTACKER[4], "2001:2:0:1::/64", "198.18.64.0/20"}
    assert all(0 < after[address] <= before[address] for address in after)
    assert lab.elements("partner4") == {BYSTANDER[4]}
    assert lab.elements("listed_tcp") == {25}
    assert lab.count("backscatter") == 3


def test_blocks_are_enforced_after_an_update(lab: Lab) -> None:
    lab.listen(LISTED)
    _install(lab)
    lab.table.sets.block([(parse_source(ATTACKER[4]), 600)])
    _install(lab)
    assert not lab.answers(ATTACKER[4])


def test_a_second_update_changes_nothing(lab: Lab) -> None:
    _install(lab)
    once = lab.nft("--debug=netlink", "list table inet sentryfw")
    _install(lab)
    assert _without_handles(lab.nft("--debug=netlink", "list table inet sentryfw")) == (
        _without_handles(once)
    )


def _without_handles(listing: str) -> str:
    """Return a listing without what differs between two equal tables: handles, and the order of
    the elements of a hashed set."""
    plain = re.sub(r"^inet sentryfw (\w+)( \d+)+", r"inet sentryfw \1", listing, flags=re.MULTILINE)
    return re.sub(
        r"(?:\s*element [^\n]*)+",
        lambda found: "\n".join(sorted(re.findall(r"element .*?\[end\]", found[0]))),
        plain,
    )


def test_an_update_replaces_the_never_block_sets(lab: Lab) -> None:
    def load(network: str) -> None:
        protected = [Protected(ip_network(network), "test")]
        lab.victim.call(lambda: install(lab.table, Config(), protected))

    load("198.18.7.0/24")
    load("198.18.8.0/24")
    listed = lab.nft("list set inet sentryfw never_block4")
    assert "198.18.8.0/24" in listed
    assert "198.18.7.0/24" not in listed


def test_a_table_of_an_older_schema_is_replaced_and_its_blocks_are_kept(lab: Lab) -> None:
    lab.nft(OLDER)
    installed = _install(lab)
    assert not installed.plan.update
    assert lab.table.comment() == COMMENT
    blocks = {b.address: (b.timeout, b.expires) for b in lab.victim.call(lab.table.sets.blocks)}
    assert {address: timeout for address, (timeout, _) in blocks.items()} == {
        "198.18.0.2": 3600, "198.18.0.9": 0, "2001:2::/64": 7200, "198.18.64.0/20": 10800,
    }  # fmt: skip
    for address, left in (("198.18.0.2", 1200), ("2001:2::/64", 5400), ("198.18.64.0/20", 7200)):
        assert left - 10 < blocks[address][1] <= left
    tables = json.loads(lab.victim.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    assert not [item for item in tables if item.get("set", {}).get("name") == "forgotten"]


def test_a_table_of_another_schema_keeps_the_time_that_partners_have_left(lab: Lab) -> None:
    """Elements that have the timeout of their set: nft lists only when they expire."""
    lab.nft(OLDER)
    _install(lab)
    listing = json.loads(lab.nft("-j", "list set inet sentryfw partner4"))["nftables"]
    [element] = [item["set"]["elem"][0]["elem"] for item in listing if "set" in item]
    assert element["val"] == "198.18.0.7"
    assert 5 * 3600 - 10 < element["expires"] <= 5 * 3600


@pytest.mark.parametrize("comment", ['comment "mine"', ""], ids=["other-comment", "no-comment"])
def test_a_foreign_table_of_our_name_is_refused_and_unchanged(lab: Lab, comment: str) -> None:
    lab.nft(f"table inet sentryfw {{ {comment}\n chain c {{ }}\n}}")
    before = lab.nft("list ruleset")
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        _install(lab)
    with pytest.raises(SentryError, match="that SentryFW did not make"):
        _uninstall(lab)
    assert lab.nft("list ruleset") == before


def test_install_restores_flushed_rules(lab: Lab) -> None:
    _install(lab)
    whole = lab.nft("-s", "list table inet sentryfw")
    lab.nft("flush table inet sentryfw")
    assert queue_rule.active(lab.table) is None
    _install(lab)
    assert lab.nft("-s", "list table inet sentryfw") == whole
    assert queue_rule.active(lab.table) is not None


def test_install_restores_a_deleted_chain_or_set(lab: Lab) -> None:
    _install(lab)
    lab.nft("flush table inet sentryfw")
    lab.nft("delete chain inet sentryfw late_drop")
    lab.nft("delete set inet sentryfw block_net6")
    _install(lab)
    listed = lab.nft("list table inet sentryfw")
    assert "chain late_drop" in listed
    assert "set block_net6" in listed
