"""The configured reactions: which parts a configuration makes, and what it imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.respond import Respond
from sentryfw.respond.reactions import Reactions
from support.reactions import Results

COMMAND = {"command": {"argv": ["/bin/true"], "concurrency": 3}}
DENY = {"hosts_deny": {"enabled": True, "path": "/nonexistent/hosts.deny"}}


def _names(config: dict[str, Any], helper: Path | None = None) -> list[str]:
    made = Reactions(Respond.model_validate(config), Results(), helper)
    made.look_up_names(lambda *_: None, lambda _: None)
    return [part.reporter.name for part in made.parts]


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, []),
        (COMMAND, ["command"]),
        ({"log": {"to": "syslog"}}, ["log"]),
        ({"history": {"format": "portsentry1", "path": "/nonexistent/history"}}, ["history"]),
        ({"syslog": {"host": "127.0.0.1"}}, ["syslog"]),
        ({"mail": {"to": ["a@example.org"]}}, ["mail"]),
        ({"webhook": [{"url": "https://a.example/"}] * 2}, ["webhook", "webhook-2"]),
        (DENY, ["hosts_deny"]),
        ({"route": {"enabled": True}}, ["route"]),
        ({"bgp": {"enabled": True}}, ["bgp"]),
        ({"crowdsec": {"url": "https://a.example/", "credentials": "/a"}}, ["crowdsec"]),
        ({"dns": {"enabled": True}}, ["dns"]),
        ({"route": {"enabled": True}, **COMMAND, **DENY}, ["command", "hosts_deny", "route"]),
    ],
)
def test_a_configuration_makes_its_parts(config: dict[str, Any], names: list[str]) -> None:
    assert _names(config) == names


def test_a_helper_acts_for_the_command_and_hosts_deny(tmp_path: Path) -> None:
    """Neither the command nor the file is touched by this process."""
    assert _names({**COMMAND, **DENY}, tmp_path / "respond.sock") == ["command", "hosts_deny"]


def test_unused_reactions_are_not_imported() -> None:
    code = (
        "import sys\n"
        "from sentryfw.config.respond import Respond\n"
        "from sentryfw.respond.responder import Callbacks, Responder\n"
        "ignore = lambda *_: None\n"
        "Responder(Respond(), Callbacks(ignore, ignore, ignore), [])\n"
        "print(*(name for name in sys.modules if name.startswith('sentryfw.respond.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    )
    loaded = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert loaded == {"responder", "incident", "mirrored_blocks", "reaction_queue", "reactions"}
