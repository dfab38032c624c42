"""schema.py and rulesets/*.nft state the same names, bits, sizes and timeouts."""

import re
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.config.types import MAX_BLOCKS
from sentryfw.host.protected import index_of
from sentryfw.netfilter import schema
from sentryfw.netfilter.ruleset import render

EVERYTHING: Final = Config.model_validate(
    {
        "watch": {"forward": True, "inside": ["inside0"], "interfaces": ["outside0"]},
        "decoy": {"tcp": [8081], "udp": [8082], "banner": "hello"},
    }
)
SCRIPT: Final = render(EVERYTHING, index_of([])).script(queue_statement=True, update=False)
SETS: Final = dict(re.findall(r"^\tset (\w+) \{\n(.*?)^\t\}$", SCRIPT, re.MULTILINE | re.DOTALL))
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _size(name: str) -> int:
    found = re.search(r"^\t\tsize (\d+)$", SETS[name], re.MULTILINE)
    assert found is not None, f"set {name} has no size"
    return int(found[1])


def _timeout(name: str) -> float:
    found = re.search(r"^\t\ttimeout (\d+)([smhd])$", SETS[name], re.MULTILINE)
    assert found is not None, f"set {name} has no timeout"
    return float(int(found[1]) * SECONDS[found[2]])


def test_the_table_has_the_name_and_the_comment() -> None:
    assert f"table inet {schema.TABLE} {{" in SCRIPT
    assert f'comment "{schema.COMMENT}"' in SCRIPT


@pytest.mark.parametrize(
    "name",
    [
        *schema.BLOCK_SETS.values(), *schema.NETWORK_SETS, *schema.NEVER_BLOCK_SETS,
        *schema.ONLINK_SETS, schema.WHOLE_SET, *schema.SUSPECT_SETS, *schema.FRESH_SETS,
        *schema.TIMED_SETS, *schema.KEPT_SETS, *schema.OPENED_SETS, *schema.BREADTH_SETS,
        *schema.BROAD_SETS, *schema.TALKED_SETS,
    ],
)  # fmt: skip
def test_each_set_that_python_names_is_in_the_ruleset(name: str) -> None:
    assert name in SETS


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (schema.BLOCK_SETS.values(), schema.BLOCK_SET_SIZE),
        (schema.PARTNER_SETS, schema.PARTNER_SET_SIZE),
        (schema.FRESH_SETS, schema.FRESH_SET_SIZE),
        (schema.PEER_SETS, schema.PEER_SET_SIZE),
        (schema.SERVED_SETS, schema.SERVED_SET_SIZE),
        (schema.SERVED_UDP_SETS, schema.SERVED_UDP_SET_SIZE),
        (schema.CONFINE_SETS.values(), schema.CONFINE_SET_SIZE),
        (schema.DEFER_SETS.values(), schema.DEFER_SET_SIZE),
        (schema.DEFER_TARGET_SETS.values(), schema.DEFER_SET_SIZE),
        (schema.DEFER_PREFIX_SETS.values(), schema.PREFIX_SET_SIZE),
        (schema.BLOCK_PREFIX_SETS.values(), schema.PREFIX_SET_SIZE),
        ((*schema.OPENED_SETS, *schema.TALKED_SETS), schema.OPENED_SET_SIZE),
        (schema.BREADTH_SETS, schema.BREADTH_SET_SIZE),
        (schema.BROAD_SETS, schema.BROAD_SET_SIZE),
        (["asked"], schema.ASKED_SET_SIZE),
        (schema.SUSPECT_SETS, schema.SUSPECT_SET_SIZE),
    ],
)
def test_sets_have_the_sizes_of_the_schema(names: tuple[str, ...], size: int) -> None:
    assert {_size(name) for name in names} == {size}


def test_a_block_set_holds_as_many_blocks_as_a_configuration_may_ask_for() -> None:
    assert schema.BLOCK_SET_SIZE == MAX_BLOCKS


@pytest.mark.parametrize(
    ("names", "timeout"),
    [
        (schema.PARTNER_SETS, schema.PARTNER_TIMEOUT_S),
        (schema.PEER_SETS, schema.PEER_TIMEOUT_S),
        (schema.SERVED_SETS, schema.SERVED_TIMEOUT_S),
        (schema.SERVED_UDP_SETS, schema.SERVED_TIMEOUT_S),
        ((*schema.OPENED_SETS, *schema.TALKED_SETS), schema.OPENED_TIMEOUT_S),
        (schema.BROAD_SETS, schema.OPENED_TIMEOUT_S),
        (schema.BREADTH_SETS, schema.BREADTH_TIMEOUT_S),
        (["asked"], schema.ASKED_TIMEOUT_S),
        (schema.FRESH_SETS, schema.FRESH_TIMEOUT_S),
        (schema.SUSPECT_SETS, schema.SUSPECT_TIMEOUT_S),
    ],
)
def test_sets_have_the_timeouts_of_the_schema(names: tuple[str, ...], timeout: float) -> None:
    assert {_timeout(name) for name in names} == {timeout}


def test_the_ruleset_sets_exactly_the_mark_bits_that_the_verdict_clears() -> None:
    defines = dict(re.findall(r"^define (\w+) = (.*)$", SCRIPT, re.MULTILINE))
    names = re.findall(r"meta mark set meta mark \| \$(\w+)", SCRIPT)
    assert SCRIPT.count("meta mark set") == len(names)
    used = {int(defines[name], 16) for name in names}
    assert used == {
        schema.UNLISTED_BIT, schema.PARTNER_BIT, schema.HALF_OPEN_BIT,
        schema.PEER_BIT, schema.DEFERRED_BITS,
    }  # fmt: skip
    assert sum(used - {schema.DEFERRED_BITS}) == schema.MARK_MASK


def test_the_mark_of_the_decoy_s_sockets() -> None:
    assert f"define decoy_mark = 0x{schema.DECOY_MARK:08x}" in SCRIPT
