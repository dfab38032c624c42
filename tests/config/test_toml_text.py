"""Tables as TOML text."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config.toml_text import to_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUE = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, VALUE, max_size=3), max_size=3))
def test_the_text_is_read_back_as_the_table(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_text(table)) == table


def test_a_list_has_a_line_for_each_item() -> None:
    """A line of the configuration has a limit; a list of networks has none."""
    networks = [f"192.0.2.{number}" for number in range(200)]
    text = to_text({"never_block": {"addresses": networks}})
    assert max(map(len, text.splitlines())) < 40
    assert tomllib.loads(text) == {"never_block": {"addresses": networks}}
