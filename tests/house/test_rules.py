"""The rules that keep the house hold for the whole tree; rules.py lists what breaks them."""

import pytest
import rules


@pytest.mark.parametrize("rule", sorted(rules.RULES))
def test_the_tree_keeps_the_rule(rule: str) -> None:
    found = rules.offences(rule)
    assert not found, "\n".join([f"{rules.RULES[rule].__doc__}", *map(str, found)])


def test_each_exception_has_a_reason_and_is_needed() -> None:
    assert rules.unused_exceptions() == []
