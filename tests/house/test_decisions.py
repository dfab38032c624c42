"""docs/decisions.md: every slug that the code cites exists, and the index lists every slug."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "decisions.md").read_text()
SLUGS: Final = frozenset(re.findall(r"^### ([a-z0-9-]+)$", PAGE, re.MULTILINE))
CITATION: Final = re.compile(r"decisions\.md: ([a-z0-9-]+(?:,\s+[a-z0-9-]+)*)")
CITING: Final = sorted(
    path
    for folder in ("sentryfw", "rulesets", "packaging", "bench", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".nft"} and path != Path(__file__).resolve()
)


def _cited(path: Path) -> set[str]:
    found = CITATION.findall(path.read_text())
    return {slug for slugs in found for slug in re.split(r",\s+", slugs)}


def test_the_index_lists_every_slug_once() -> None:
    index = PAGE.partition("\n## ")[0]
    listed = re.findall(r"\[([a-z0-9-]+)\]\(#\1\)", index)
    assert sorted(listed) == sorted(SLUGS)


def test_every_cited_slug_exists() -> None:
    missing = {str(path): unknown for path in CITING if (unknown := _cited(path) - SLUGS)}
    assert not missing


@pytest.mark.parametrize("room", re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
def test_the_code_cites_decisions_of_each_room(room: str) -> None:
    """Decisions of a room that no code cites are not found by readers of the code."""
    part = PAGE.partition(f"\n## {room}\n")[2].partition("\n## ")[0]
    slugs = set(re.findall(r"^### ([a-z0-9-]+)$", part, re.MULTILINE))
    assert slugs & {slug for path in CITING for slug in _cited(path)}
