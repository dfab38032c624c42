"""The screen of watch, without a terminal: its lines, and the effect of keys."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from sentryfw.cli.commands.watch.screen import Action, Screen, story
from sentryfw.cli.commands.watch.state import View
from sentryfw.text import local_clock

STATUS = {
    "pid": 7, "tracked_sources": 12, "flood": False, "overload": {"queue full": 0},
    "queue": {"max_len": 16384, "failures": 0}, "lost_records": 0, "faults": {}, "blocked": 57,
}  # fmt: skip


def block(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"203.0.113.{number}", "scan": "portscan", "kinds": ["syn", "udp"],
        "expires_in_s": 3599.0, "timeout_s": 3600.0, "tool": "nmap", "targets": 3,
        "reason": "3 distinct targets",
        "dropped_packets": 1234, **more,
    }  # fmt: skip


def source(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"198.51.100.{number}", "progress": 0.667, "targets": 2, "probes": 5,
        "kinds": ["syn"], "last": "198.18.0.1 tcp/23", "idle_s": 4.0, "first_s": 9.0,
        "horizon": "window", **more,
    }  # fmt: skip


def view(blocks: int = 3, sources: int = 2, **more: Any) -> View:
    rates = {"judged": 98_231.4, "blocked_early": 10.0, "blocked_late": 2.0, "over_limit": 7.0}
    made = View(
        at=0.0,
        daemon=STATUS,
        divert="queue",
        counters={"blocked_early": 100},
        rates=rates,
        probes=[1.0, 50.0, 100.0],
        blocked=57,
        queue={"waiting": 4},
        blocks=[block(n) for n in range(blocks)],
        sources=[source(n) for n in range(sources)],
    )
    return replace(made, **more)


def screen(shown: View | None = None) -> Screen:
    made = Screen()
    made.view = shown or view()
    return made


def text(shown: Screen, width: int = 80, height: int = 24) -> str:
    return "\n".join(line.text for line in shown.lines(width, height))


@pytest.mark.parametrize(
    ("width", "height"),
    [*itertools.product((1, 20, 80, 300), (1, 2, 5, 8, 10, 24, 200))],
    ids=str,
)
@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (100, 50), (0, 50), (100, 0)], ids=str)
def test_it_fits_every_terminal(width: int, height: int, counts: tuple[int, int]) -> None:
    shown = screen(view(*counts))
    for key in ("", "down", "u", "n", "e"):
        shown.key(key)
        lines = shown.lines(width, height)
        assert len(lines) <= height
        assert max(len(line.text) for line in lines) <= width


def test_80_by_24_shows_everything_that_was_asked_for() -> None:
    shown = text(screen(view(100, 50)))
    for wanted in (
        "98,231/s", "12/s of blocked sources", "blocked  57 now", "4 of 16,384 waiting   ok",
        "[.+@]",
        "203.0.113.0              59m59s   1,234  portscan by nmap: syn, udp, 3 targets",
        "198.51.100.0              67%    2      5     4s  syn",
        "q quit", "? help", "u unblock", "a allow", "e explain",
    ):  # fmt: skip
        assert wanted in shown
    assert shown.count("203.0.113.") == 8
    assert shown.count("198.51.100.") == 5


def test_a_long_list_gives_its_room_to_the_other() -> None:
    assert text(screen(view(100, 1))).count("203.0.113.") == 12
    assert text(screen(view(1, 50))).count("198.51.100.") == 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"daemon": {}}, "daemon NOT RUNNING"),
        ({"daemon": {**STATUS, "flood": True}}, "flood ON: all take [detect] trigger"),
        ({"daemon": {**STATUS, "overload": {"queue full": 5}}}, "waiting   queue full 5"),
        ({"daemon": {**STATUS, "faults": {"ledger": "disk full"}}}, "! ledger: disk full"),
        ({"warnings": ["no reasons"]}, "! no reasons"),
        ({"fault": "not installed here", "blocks": [], "sources": []}, "not installed here"),
        ({"blocked": None}, "blocked  ? now"),
        ({"blocks": [block(1, timeout_s=0.0)]}, "203.0.113.1             forever"),
    ],
    ids=["stopped", "flood", "losses", "disk", "warning", "uninstalled", "uncounted", "forever"],
)
def test_a_fault_is_shown_in_words(change: dict[str, Any], said: str) -> None:
    assert said in text(screen(replace(view(), **change)))


def test_in_the_worst_flood_no_word_is_cut_off_at_80_columns() -> None:
    rates = dict.fromkeys(("judged", "over_source", "over_limit"), 999_999.0)
    daemon = {**STATUS, "flood": True, "tracked_sources": 69_632}
    lines = screen(view(daemon=daemon, rates=rates, blocked=2_097_152)).lines(300, 24)
    assert max(len(line.text) for line in lines) <= 80


@pytest.mark.parametrize(
    ("tracked", "said"),
    [(13_723, "TRIGGER (2 of 13,723)"), (2, "TRIGGER (2)"), (0, "TRIGGER (2)")],
    ids=["more than are shown", "all", "gone meanwhile"],
)
def test_it_shows_the_number_of_tracked_sources(tracked: int, said: str) -> None:
    assert said in text(screen(view(daemon={**STATUS, "tracked_sources": tracked})))


def test_a_source_at_its_trigger_shows_why_it_is_not_blocked() -> None:
    full = source(1, progress=1.0, refused="observe")
    shown = text(screen(replace(view(), sources=[full, source(2, refused="")])))
    at_trigger, below = (line for line in shown.splitlines() if "198.51.100." in line)
    assert "100%" in at_trigger
    assert at_trigger.endswith("syn; not blocked: observe")
    assert below.endswith("syn")


def test_what_does_not_fit_ends_in_two_dots() -> None:
    long = block(1, reason="the true source is unknown: 12 more sent the same packets")
    [line] = [line for line in text(screen(replace(view(), blocks=[long]))).splitlines()
              if "203.0.113." in line]  # fmt: skip
    assert len(line) == 80
    assert line.endswith("..")


def test_long_remarks_and_stories_are_wrapped() -> None:
    warning = "the ledger cannot be read, so reasons are missing: " + "x" * 10 + " " + "y" * 40
    shown = text(screen(replace(view(), warnings=[warning])))
    assert "y" * 40 in shown
    reading = screen()
    reading.show_story(["word " * 30 + "end"])
    assert " end" in text(reading)


def test_the_selection_stays_in_its_place_when_its_source_has_gone() -> None:
    shown = screen(view(3, 0))
    shown.key("down")
    shown.key("down")
    assert "> 203.0.113.1" in text(shown)
    shown.view = replace(view(), blocks=[block(0), block(2)], sources=[])
    assert "> 203.0.113.2" in text(shown)
    shown.view = replace(view(), blocks=[], sources=[])
    assert "> " not in text(shown)


def test_a_question_is_about_the_source_that_it_named() -> None:
    shown = screen(view(2, 0))
    shown.key("down")
    shown.key("u")
    shown.view = replace(view(), blocks=[block(1)], sources=[])
    assert "unblock 203.0.113.0? y/n" in text(shown)
    assert shown.key("y") == Action("unblock", "203.0.113.0")


def test_a_single_frame_has_no_history_to_draw() -> None:
    once = Screen(history=False)
    once.view = view()
    assert "minute" in text(screen())
    assert "minute" not in text(once)


def test_nothing_that_others_wrote_moves_the_cursor() -> None:
    hostile = "\x1b[2J\u202e\nx\u5e83"
    shown = screen(replace(view(), blocks=[block(1, tool=hostile, kinds=[hostile])]))
    lines = shown.lines(80, 24)
    assert all(line.text.isascii() and line.text.isprintable() for line in lines)


def test_the_selection_follows_its_address_through_both_lists() -> None:
    shown = screen(view(2, 1))
    for key in ("down", "down", "down"):
        shown.key(key)
    assert "> 198.51.100.0" in text(shown)
    shown.view = view(3, 2)
    assert "> 198.51.100.0" in text(shown)
    shown.key("up")
    assert "> 203.0.113.2" in text(shown)
    for _ in range(10):
        shown.key("pageup")
    assert "> 203.0.113.0" in text(shown)


def test_the_selected_one_is_always_on_the_screen() -> None:
    shown = screen(view(100, 50))
    for _ in range(70):
        shown.key("down")
    assert "> 203.0.113.69" in text(shown)


@pytest.mark.parametrize(
    ("keys", "action", "asked"),
    [
        (("down", "u", "y"), Action("unblock", "203.0.113.0"), "unblock 203.0.113.0? y/n"),
        (("down", "a", "y"), Action("allow", "203.0.113.0"), "never block 203.0.113.0? y/n"),
        (("down", "u", "n"), None, "unblock 203.0.113.0? y/n"),
        (("down", "u", "q"), None, "unblock 203.0.113.0? y/n"),
        (("down", "e"), Action("explain", "203.0.113.0"), "q quit"),
        (("u", "y"), None, "no source is selected"),
        (("j", "j", "j", "j", "u", "y"), None, "198.51.100.0 is not blocked"),
        (("j", "j", "j", "j", "a", "y"), Action("allow", "198.51.100.0"), "never block 198.51"),
    ],
    ids=[
        "unblock",
        "allow",
        "no",
        "neither",
        "explain",
        "nothing",
        "not blocked",
        "allow a source",
    ],
)
def test_only_a_yes_changes_anything(
    keys: tuple[str, ...], action: Action | None, asked: str
) -> None:
    shown = screen()
    for key in keys[:-1]:
        assert shown.key(key) is None
    assert asked in text(shown)
    assert shown.key(keys[-1]) == action


def test_a_story_is_read_and_left() -> None:
    shown = screen()
    row = {
        "at": "2026-11-22T06:00:00.1+0000",
        "what": "probe",
        "kind": "syn",
        "target": "t",
        "why": "w",
    }
    shown.show_story(
        story({"address": "203.0.113.1", "because": "blocked: it scanned"}, [row] * 40)
    )
    assert "203.0.113.1: blocked: it scanned" in text(shown)
    assert f"{local_clock(row['at'])}  probe  syn  t  w" in text(shown)
    for _ in range(100):
        shown.key("pagedown")
    assert "probe" in text(shown)
    assert "it scanned" not in text(shown)
    assert shown.is_reading
    shown.key("q")
    assert not shown.is_reading
    assert "BLOCKED" in text(shown)
