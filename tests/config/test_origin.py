"""[geo] and [labels]: absolute paths, bounded in number."""

from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.config.origin import NO_FILES, OriginFiles
from sentryfw.errors import ConfigError


def test_nothing_is_configured_by_default() -> None:
    found = config.parse(b"", "test")
    assert OriginFiles(found.geo, found.labels) == NO_FILES
    assert not NO_FILES.is_wanted


def test_files_and_an_age() -> None:
    text = '[geo]\ndatabases = ["/a.mmdb", "/b.db"]\nmax_age = "30d"\n[labels]\nfiles = ["/c"]'
    found = config.parse(text.encode(), "test")
    assert found.geo.databases == (Path("/a.mmdb"), Path("/b.db"))
    assert found.geo.max_age == 30 * 86400
    assert OriginFiles(found.geo, found.labels).is_wanted


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[geo]\ndatabases = ["a.mmdb"]', "is not an absolute path"),
        ("[geo]\ndatabases = [5]", "geo.databases"),
        ("[geo]\nmax_age = 0", "out of range"),
        (f"[geo]\ndatabases = {['/a'] * 9}", "geo.databases"),
        (f"[labels]\nfiles = {['/a'] * 65}", "labels.files"),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text.encode(), "test")
    assert fault in str(caught.value)
