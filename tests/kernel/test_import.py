"""A list of others: its sources are dropped until the list ends or is removed, beside a daemon."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lab import ATTACKER, BYSTANDER, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
MIRRORED = "[respond.route]\nenabled = true\n[respond.bgp]\nenabled = true\n"


def _cli(lab: Lab, daemon: Sentry, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "sentryfw", "-c", daemon.config, *words]
    done = lab.victim.run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_list_holds_over_a_restart_and_ends_as_a_whole(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    lab.listen()
    daemon = start_daemon(MIRRORED)
    client = lab.open(ATTACKER[4])
    path = tmp_path / "list"
    path.write_text(f"{ATTACKER[4]}\n203.0.113.0/24\n192.0.2.0/24\n{ATTACKER[6]}\n")
    said = _cli(lab, daemon, "import", str(path), "--name", "drop", "--for", "1h")
    assert "blocked 2 sources and 2 networks of the list drop" in said
    assert not lab.answers(ATTACKER[4])
    assert lab.answers(BYSTANDER[4])
    client.sendall(b"a live connection goes on")
    daemon.stop()
    daemon.start()
    wait_for(lambda: daemon.status()["blocked"] == 4, "all are blocked still")
    assert not lab.answers(ATTACKER[4])
    for table in ("main", "5277"):
        assert "blackhole" not in lab.victim.run("ip", "route", "show", "table", table).stdout
    path.write_text("203.0.113.0/25\n")
    _cli(lab, daemon, "import", str(path), "--name", "drop", "--for", "1h")
    assert lab.answers(ATTACKER[4])
    assert _cli(lab, daemon, "import", "--remove", "drop") == "unblocked 1 of the list drop\n"
    assert json.loads(_cli(lab, daemon, "list", "--json")) == []
    assert daemon.alerts(ATTACKER[4]) == []
