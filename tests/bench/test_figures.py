"""Figures: goals, ratios, and the table."""

from pathlib import Path

import pytest

from bench import figures
from bench.figures import Figure, at_least, at_most, number, rows, share_of, state


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        pytest.param(at_most("m", 5, "us", 5), "ok", id="at the limit"),
        pytest.param(at_most("m", 5.1, "us", 5), "MISSED", id="above"),
        pytest.param(at_least("m", 5, "/s", 5), "ok", id="at the least"),
        pytest.param(at_least("m", 4.9, "/s", 5), "MISSED", id="below"),
        pytest.param(at_most("m", None, "us", 5), "MISSED", id="not measured"),
        pytest.param(figures.noted("m", 5, "us"), "", id="no goal"),
    ],
)
def test_a_goal_is_met_or_reported_as_missed(figure: Figure, expected: str) -> None:
    assert state(figure) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0, "0"), (0.0, "0"), (0.1234, "0.123"), (12.34, "12.3"), (123.45, "123.5"),
        (1234.5, "1,234"), (1_000_000, "1,000,000"),
    ],
)  # fmt: skip
def test_a_number_is_short_and_nothing_is_a_dash(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_value_that_a_peer_cannot_have_is_a_dash() -> None:
    table = rows([
        at_most("leak", 0, "answers", 0, peers={"psad": 200.0}),
        at_most("add", 70, "us", 200, peers={"nft": 60.0}),
    ])  # fmt: skip
    assert table[0] == [
        "measure", "unit", "SentryFW", "psad", "nft", "ratio", "goal", "", "spread",
    ]  # fmt: skip
    assert table[1][2:5] == ["0", "200", "-"]
    assert table[2][2:5] == ["70", "-", "60"]


def test_every_row_is_as_long_as_the_heading() -> None:
    table = rows([at_most("a", 1, "us", 2), at_most("b", None, "", 2, peers={"x": 1, "y": 2})])
    assert {len(row) for row in table} == {len(table[0])}


@pytest.mark.parametrize(("least", "met"), [(0.5, True), (0.7, False), (0, None)])
def test_a_ratio_is_the_median_of_neighbouring_runs(*, least: float, met: bool | None) -> None:
    """The second pair ran on a busy machine; its ratio is as good as the others."""
    runs = {"us": [60.0, 6.0, 50.0], "peer": [100.0, 10.0, 100.0]}
    figure = share_of("m", runs, "/s", "us", "peer", least)
    assert figure.ratio == pytest.approx(0.6)
    assert figure.value == 50
    assert figure.peers == {"peer": 100}
    assert figure.met is met


def test_what_is_kept_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    measured = [at_most("a", 1.5, "us", 2, "1-2", {"nft": 1.0}), at_most("b", None, "s", 1)]
    figures.keep("run", measured, figures.machine(), 1.0)
    loaded, data = figures.load("run")
    assert loaded == measured
    assert data["machine"]["cores"] >= 1


def test_the_table_is_printed_with_missed_goals(capsys: pytest.CaptureFixture[str]) -> None:
    figures.show([at_most("slow", 9, "us", 5), at_most("fast", 1, "us", 5)])
    heading, slow, fast = capsys.readouterr().out.splitlines()
    assert "SentryFW" in heading
    assert "MISSED" in slow
    assert "MISSED" not in fast
