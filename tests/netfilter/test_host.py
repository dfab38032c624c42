"""Whom this host depends on: what is said of the lists that people keep."""

import logging
from pathlib import Path

import pytest

from sentryfw.config import Config, parse
from sentryfw.netfilter import host

pytestmark = pytest.mark.netns


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text("192.0.2.1\nnobody\n198.51.100.7/24\n")
    return path


def _config(tmp_path: Path, path: Path) -> Config:
    text = f'[paths]\nstate = "{tmp_path}"\n[never_block]\nfiles = ["{path}"]\n'
    return parse(text.encode(), "test.toml")


def _said(caplog: pytest.LogCaptureFixture, config: Config) -> list[str]:
    """What looking once more says, by the line of the list."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        host.never_block(config)
    return [record.getMessage().split(": ")[0].rpartition(":")[2] for record in caplog.records]


def test_a_faulty_list_is_warned_of_once(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    assert _said(caplog, config) == ["2", "3"]
    assert _said(caplog, config) == []
    assert _said(caplog, config) == []


def test_a_fault_that_is_new_is_warned_of_alone(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    _said(caplog, config)
    faulty.write_text(faulty.read_text() + "somebody\n")
    assert _said(caplog, config) == ["4"]


def test_a_fault_that_comes_back_is_warned_of_again(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _config(tmp_path, faulty)
    text = faulty.read_text()
    _said(caplog, config)
    faulty.write_text("192.0.2.1\n")
    assert _said(caplog, config) == []
    faulty.write_text(text)
    assert _said(caplog, config) == ["2", "3"]


def test_each_list_has_its_own_faults(
    tmp_path: Path, faulty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _said(caplog, _config(tmp_path, faulty))
    other = tmp_path / "other"
    other.write_text(faulty.read_text())
    assert _said(caplog, _config(tmp_path, other)) == ["2", "3"]
