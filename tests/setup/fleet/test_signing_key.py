"""The key that signs entries."""

from pathlib import Path

import pytest

from sentryfw.config.model import Config, Paths
from sentryfw.errors import SentryError
from sentryfw.setup.fleet.signing_key import public_key


def test_it_is_made_once_and_closed(tmp_path: Path) -> None:
    config = Config(paths=Paths(state=tmp_path / "state"))
    key = public_key(config)
    assert len(key) == 64
    assert public_key(config) == key
    assert config.paths.fleet_key.stat().st_mode & 0o777 == 0o600


def test_a_damaged_one_is_named_and_stays(tmp_path: Path) -> None:
    config = Config(paths=Paths(state=tmp_path))
    config.paths.fleet_key.write_text("nonsense")
    with pytest.raises(SentryError, match=r"fleet\.key holds no key"):
        public_key(config)
    assert config.paths.fleet_key.read_text() == "nonsense"
