"""The nft script of a rendered ruleset, for a new table and for an update."""

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.networks import NetworkIndex
from sentryfw.netfilter.script import Ruleset, networks_text, restore_elements

BODY: Final = """
table inet sentryfw {
\tset filled {
\t\ttype inet_service
\t\telements = $filled
\t}
\tset never_block4 {
\t\ttype ipv4_addr
\t\telements = $never_block4
\t}
\tset never_block6 {
\t\ttype ipv6_addr
\t\telements = $never_block6
\t}
\tset dynamic {
\t\ttype ipv4_addr
\t}
\tcounter judged {
\t}
\tchain judge {
\t}
}
"""
RULESET: Final = Ruleset(
    "define filled = { 22 }\n", BODY, "# queue rule\n", 7, ([(0x0A000000, 0x0A0000FF)], [])
)
DEFINES: Final = """define filled = { 22 }
define never_block4 = { 10.0.0.0/24 }
define never_block6 = { }
"""


def test_a_new_table_replaces_an_older_one() -> None:
    script = RULESET.script(queue_statement=True, update=False)
    start = "add table inet sentryfw\ndelete table inet sentryfw\n"
    assert script == f"{DEFINES}\n{start}\n{BODY}# queue rule\n"


def test_an_update_flushes_the_rules_and_the_sets_with_elements() -> None:
    script = RULESET.script(queue_statement=False, update=True)
    flushed = ("filled", "never_block4", "never_block6")
    start = "".join(f"flush set inet sentryfw {name}\n" for name in flushed)
    assert script == f"{DEFINES}\nflush table inet sentryfw\n{start}\n{BODY}"


def test_an_update_can_leave_the_never_block_sets_as_they_are() -> None:
    script = RULESET.script(queue_statement=False, update=True, keep_never_block=True)
    body = "".join(line for line in BODY.splitlines(True) if "$never_block" not in line)
    start = "flush table inet sentryfw\nflush set inet sentryfw filled\n"
    assert script == f"{RULESET.defines}\n{start}\n{body}"


def test_names_are_those_of_the_sets_chains_and_counters() -> None:
    assert RULESET.names("set") == {"filled", "never_block4", "never_block6", "dynamic"}
    assert RULESET.names("chain") == {"judge"}
    assert RULESET.names("counter") == {"judged"}


def test_elements_are_restored_by_one_statement_each() -> None:
    assert restore_elements(["block4 { 198.18.0.1 }"]) == (
        "add element inet sentryfw block4 { 198.18.0.1 }\n"
    )


NETWORKS: Final = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: ip_network((pair[0], pair[1]), strict=False)
    ),
    st.tuples(st.integers(0x0A000000, 0x0A0000FF), st.integers(27, 32)).map(
        lambda pair: ip_network((pair[0], pair[1]), strict=False)
    ),
    st.tuples(st.integers(2**125, 2**125 + 255), st.integers(120, 128)).map(
        lambda pair: ip_network((pair[0].to_bytes(16), pair[1]), strict=False)
    ),
)


@given(st.lists(NETWORKS, max_size=40))
def test_networks_are_joined_as_ipaddress_does(networks: list[IPv4Network | IPv6Network]) -> None:
    four = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    six = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    index = NetworkIndex(networks)
    assert list(networks_text(index.ranges(4), 32)) == list(map(str, four))
    assert list(networks_text(index.ranges(6), 128)) == list(map(str, six))
