"""The nft script of a rendered ruleset, for a new table and for an update."""

from typing import Final

from sentryfw.netfilter.script import Ruleset, restore_elements

BODY: Final = """
table inet sentryfw {
\tset filled {
\t\ttype inet_service
\t\telements = $filled
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
RULESET: Final = Ruleset("define filled = { 22 }\n", BODY, "# queue rule\n", 7)


def test_a_new_table_replaces_an_older_one() -> None:
    script = RULESET.script(queue_statement=True, update=False)
    start = "add table inet sentryfw\ndelete table inet sentryfw\n"
    assert script == f"{RULESET.defines}\n{start}\n{BODY}# queue rule\n"


def test_an_update_flushes_the_rules_and_the_sets_with_elements() -> None:
    script = RULESET.script(queue_statement=False, update=True)
    start = "flush table inet sentryfw\nflush set inet sentryfw filled\n"
    assert script == f"{RULESET.defines}\n{start}\n{BODY}"


def test_names_are_those_of_the_sets_chains_and_counters() -> None:
    assert RULESET.names("set") == {"filled", "dynamic"}
    assert RULESET.names("chain") == {"judge"}
    assert RULESET.names("counter") == {"judged"}


def test_elements_are_restored_by_one_statement_each() -> None:
    assert restore_elements(["block4 { 198.18.0.1 }"]) == (
        "add element inet sentryfw block4 { 198.18.0.1 }\n"
    )
