"""The paths in a configuration that cannot be loaded."""

from pathlib import Path

import pytest

from sentryfw.config.model import Paths
from sentryfw.query.named_paths import named_paths

NAMED = '[paths]\nstate = "/srv/state"\nruntime = "/srv/run"\n'


def test_paths_are_found_in_a_file_that_is_not_toml(tmp_path: Path) -> None:
    place = tmp_path / "a.toml"
    place.write_text(NAMED + "[detect\n")
    assert named_paths(place) == Paths(state=Path("/srv/state"), runtime=Path("/srv/run"))


def test_a_dotted_key_and_a_drop_in_count(tmp_path: Path) -> None:
    place = tmp_path / "a.toml"
    place.write_text(NAMED)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.toml").write_text("paths.runtime = '/srv/other'\n\xff]")
    assert named_paths(place).runtime == Path("/srv/other")


@pytest.mark.parametrize("what", ["missing", "directory", "null"])
def test_without_a_readable_file_the_default_paths_apply(tmp_path: Path, what: str) -> None:
    place = tmp_path / "a.toml"
    if what == "directory":
        place.mkdir()
    elif what == "null":
        place.write_bytes(b"\0" * 100)
        (tmp_path / "conf.d").write_text("in the way")
    assert named_paths(place) == Paths()
