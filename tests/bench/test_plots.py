"""The plots are SVG that a browser takes; the page keeps what was written by hand."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import report
from bench.figures import at_most
from bench.plots import LEFT_PX, WIDTH_PX, bars

SVG = "{http://www.w3.org/2000/svg}"


def _bars(drawing: str) -> dict[str, float]:
    """Name -> width of each bar."""
    root = ET.fromstring(drawing)  # noqa: S314 - our own
    found = {}
    for rect in root.iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None:
            found[str(title.text)] = float(rect.attrib["width"])
    return found


def test_a_plot_with_any_words_is_well_formed() -> None:
    drawing = bars("a < b & c", "us", [('"quoted" <label>', {"x & y": 1.0})])
    root = ET.fromstring(drawing)  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"a < b & c", '"quoted" <label>', "x & y"} <= set(words)


def test_bars_are_as_long_as_their_values() -> None:
    widths = _bars(bars("t", "us", [("m", {"one": 10.0, "half": 5.0, "none": 0.0})]))
    assert widths["half"] == pytest.approx(widths["one"] / 2, abs=0.1)
    assert widths["none"] == 0


@pytest.mark.parametrize("logarithmic", [False, True], ids=["linear", "logarithmic"])
def test_no_bar_leaves_the_picture(*, logarithmic: bool) -> None:
    values = {"a": 1e-9, "b": 1.0, "c": 1e12}
    for width in _bars(bars("t", "x", [("m", values)], logarithmic=logarithmic)).values():
        assert 0 <= width <= WIDTH_PX - LEFT_PX


def test_a_system_without_a_value_has_no_bar() -> None:
    widths = _bars(bars("t", "us", [("m", {"a": 1.0}), ("n", {"b": 2.0})]))
    assert len(widths) == 2


def test_nothing_to_draw_is_still_a_picture() -> None:
    assert ET.fromstring(bars("t", "us", [])).tag == f"{SVG}svg"  # noqa: S314 - our own


def test_the_page_keeps_the_text_around_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(report, "PAGE", page)
    machine = {"cores": 2, "cpu": "c", "memory_gib": 1.0, "kernel": "k", "python": "p",
               "load_before": 0.1}  # fmt: skip
    data = {"at": "now", "seconds": 1.0, "machine": machine}
    report.write([at_most("leak at 1/s", 0, "answers", 0, peers={"psad": 200.0})], data)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| leak at 1/s | answers | 0 | 200 |" in text
    assert (tmp_path / "performance" / "leak.svg").exists()
