"""Values for a shell's completion; the fake host has no daemon."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentryfw.cli import completion
from support.fake_host import FakeHost


def context(path: Path | None) -> Any:
    return SimpleNamespace(parent=SimpleNamespace(params={"config_file": path}))


def test_unblock_and_explain_complete_blocked_addresses(host: FakeHost) -> None:
    host.sentryfw("block", "203.0.113.7", "203.0.114.0/24", "2001:db8::1")
    found = host.inside(lambda: completion.blocked_addresses(context(host.config), "203.0.11"))
    assert dict(found) == {
        "203.0.113.7": "blocked by hand", "203.0.114.0/24": "blocked by hand",
    }  # fmt: skip
    every = host.inside(lambda: completion.blocked_addresses(context(host.config), ""))
    assert "2001:db8::/64" in dict(every)


def test_a_fault_completes_nothing(
    bare_host: FakeHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = completion.blocked_addresses
    assert bare_host.inside(lambda: ask(context(bare_host.config), "")) == []
    bad = tmp_path / "bad.toml"
    bad.write_text("[[[")
    assert bare_host.inside(lambda: ask(context(bad), "")) == []
    assert capsys.readouterr() == ("", "")


def test_kinds_scans_and_timeouts() -> None:
    assert completion.kinds("fi") == ["fin"]
    assert "portscan" in completion.kinds("ports")
    assert completion.kinds("nonsense") == []
    assert completion.timeouts("f") == ["forever"]
    assert completion.timeouts("") == ["1h", "4h", "1d", "7d", "forever"]
