"""The help of `watch` is true, and fits."""

from sentryfw.cli.commands.watch.keys import HELP, KEYS
from sentryfw.cli.commands.watch.screen import Screen


def test_the_help_fits_a_terminal_of_80_by_24() -> None:
    assert max(map(len, [*HELP, KEYS])) <= 80
    assert len(HELP) <= 14  # below ten lines of figures


def test_every_key_of_the_foot_is_explained() -> None:
    text = " ".join(HELP)
    for key in ("q", "u", "a", "e"):
        assert f" {key} " in f" {text} ".replace(",", " ")


def test_a_question_mark_shows_it_and_e_leaves_it() -> None:
    shown = Screen()
    for key in ("?", "h"):
        assert shown.key(key) is None
        assert shown.is_reading
        shown.key("e")
        assert not shown.is_reading
