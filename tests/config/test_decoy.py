"""Decoys in the configuration: which are needed, and which answer."""

import pytest

from sentryfw.config.decoy import MAX_BANNER_BYTES, Decoy


@pytest.mark.parametrize(
    ("values", "wanted", "answered"),
    [
        ({}, False, set()),
        ({"tcp": [23]}, True, set()),
        ({"udp": [69]}, False, set()),
        ({"udp": ["69-70"], "banner": "x"}, True, {69, 70}),
        ({"banner": "x"}, False, set()),
    ],
)
def test_a_listener_is_needed_for_tcp_or_for_a_banner(
    values: dict[str, object], answered: set[int], *, wanted: bool
) -> None:
    decoy = Decoy.model_validate(values)
    assert (decoy.wanted, decoy.answered) == (wanted, answered)


def test_ports_are_the_union_of_the_ranges() -> None:
    assert Decoy.model_validate({"tcp": [23, "22-24"]}).tcp_ports == {22, 23, 24}


@pytest.mark.parametrize("letter", ["x", "\u00e9"])
def test_a_banner_is_bounded_in_bytes(letter: str) -> None:
    longest = letter * (MAX_BANNER_BYTES // len(letter.encode()))
    assert Decoy(banner=longest).banner == longest
    with pytest.raises(ValueError, match="longer than"):
        Decoy(banner=longest + letter)
