"""The sentences of `install --dry-run`, for each kind of configuration."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.host import account
from sentryfw.host.protected import Protected
from sentryfw.netfilter.load import Plan
from sentryfw.setup import preview
from sentryfw.setup import service as systemd


@pytest.fixture(autouse=True)
def booted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host with systemd, without the daemon's user and without a configuration."""
    monkeypatch.setattr(systemd, "SYSTEMD", tmp_path)
    monkeypatch.setattr(account, "find", lambda: None)
    monkeypatch.setattr(preview, "DEFAULT_PATH", tmp_path / "sentryfw.toml")


def said(
    settings: dict[str, Any] | None = None, *, update: bool = False, count: int = 1,
    with_service: bool = True,
) -> str:  # fmt: skip
    ruleset: Any = None
    planned = Plan(ruleset, "", "queue", update)
    gateway = Protected(ip_network("192.0.2.1/32"), "gateway")
    config = Config.model_validate(settings or {})
    found = preview.sentences(config, planned, [gateway] * count, None, with_service=with_service)
    return "\n".join(found)


def test_a_first_install_with_the_defaults() -> None:
    text = said()
    assert "add table inet sentryfw; no other table is changed" in text
    assert "by the queue statement; while no daemon runs, they pass" in text
    assert "ports that nothing listens at of this host, on every interface but lo" in text
    assert "blocked for 1h, then 4h, then 1d, then 7d" in text
    assert "Never blocked: 192.0.2.1/32 (gateway)." in text
    assert "create the system user sentryfw" in text
    assert "sentryfw.toml, empty" in text
    assert "/etc/systemd/system/sentryfw.service" in text
    assert "enable and start sentryfw.service" in text
    assert text.endswith("To undo an install: sentryfw uninstall")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"detect": {"mode": "observe"}}, "reported only, not blocked"),
        ({"watch": {"interfaces": ["eth0"], "forward": True}},
         "of this host and to hosts behind, on eth0"),
        ({"watch": {"mode": "traps", "trap_tcp": [23]}}, "New packets to the trap ports"),
        ({"respond": {"hosts_deny": {"enabled": True}}}, "a line in hosts.deny"),
        ({"respond": {"hosts_deny": {"enabled": True}}}, "a helper would run beside it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_choice_has_its_sentence(settings: dict[str, Any], words: str) -> None:
    assert words in said(settings)
    assert words not in said()


def test_an_update_keeps_its_blocks() -> None:
    assert "in one transaction; its blocks stay" in said(update=True)


def test_many_never_block_sources_are_counted() -> None:
    assert said(count=1006).count("(gateway)") == preview.MAX_NAMED
    assert ", and 1,000 more." in said(count=1006)


def test_without_a_service_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "start sentryfwd yourself" in said(with_service=False)
    monkeypatch.setattr(systemd, "SYSTEMD", Path("/nonexistent"))
    assert "start sentryfwd by other means" in said()
