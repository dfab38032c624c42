"""A terminal's text as an SVG picture, by rich, and the text in such a picture."""

import html
import io
import re
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
COLUMNS: Final = 80


def picture(shown: str, command: str) -> str:
    """Return the picture of a terminal in which a command was typed. It loads nothing: rich's fonts
    are replaced by those of the reader."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"# {command}"), Text.from_ansi(shown.rstrip()), sep="\n")
    made = console.export_svg(title=command, unique_id="sentryfw")
    made = re.sub(r"@font-face\s*\{[^}]*\}|<!--.*?-->", "", made, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in made.splitlines() if line.strip()) + "\n"


def text_in(svg: str) -> list[str]:
    """Return the lines of text in a picture: those of one height are one line."""
    lines: dict[str, str] = {}
    for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*clip-path[^>]*>(.*?)</text>', svg):
        lines[y] = lines.get(y, "") + html.unescape(text).replace("\xa0", " ")
    return [line.rstrip() for line in lines.values()]


def shape(lines: list[str]) -> list[str]:
    """Return the words without what changes from run to run: numbers, and the ends of lines."""
    return re.sub(r"\d+(\.\d+)?", "N", " ".join(lines)).split()
