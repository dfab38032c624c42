"""Reactions that need root, for a daemon that does not run as root."""

import json
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sentryfw.host import account
from sentryfw.record.ledger import Ledger
from support import users
from support.inprocess import SERVICE_USER
from support.lab import ATTACKER, UNLISTED, Lab, Sentry
from support.processes import Process, below
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
CODE: Final = (
    "from sentryfw.host import account; from sentryfw.daemon import main;"
    f" account.USER = {SERVICE_USER!r};"
    "import sys; sys.argv[0] = 'sentryfwd'; main.main()"
)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    monkeypatch.setattr(account, "USER", SERVICE_USER)
    return users.service_user()


def _by_root(make_daemon: MakeDaemon, settings: str) -> Sentry:
    """Return a daemon that root will start by hand and that becomes its user."""
    sentry = make_daemon(settings)
    users.own(sentry.home)
    python = Path(sentry.command[0]).with_name("python")
    sentry.command = [python, "-P", "-c", CODE, *sentry.command[1:]]
    return sentry


def _settings(deny: Path, argv: list[str]) -> str:
    return (
        f"[respond.hosts_deny]\nenabled = true\npath = {json.dumps(str(deny))}\n"
        f'[respond.command]\nargv = {json.dumps(argv)}\ntimeout = "1m"\n'
    )


def _uid(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Uid:")).split()[1])


def _helpers(sentry: Sentry) -> list[Process]:
    return [child for child in below(sentry.process.pid) if _uid(child.pid) == 0]


def test_root_is_left_to_a_child_and_both_reactions_work(
    lab: Lab, make_daemon: MakeDaemon, user: pwd.struct_passwd, tmp_path: Path
) -> None:
    deny, said = tmp_path / "hosts.deny", tmp_path / "said"
    deny.write_text("ALL: PARANOID\n")
    argv = ["/bin/sh", "-c", f"id -u > {said}; echo {{ip}} {{port}} >> {said}"]
    sentry = _by_root(make_daemon, _settings(deny, argv)).start()
    assert _uid(sentry.process.pid) == user.pw_uid
    [helper] = _helpers(sentry)
    lab.probe(ATTACKER[4], *UNLISTED)
    sentry.alert(ATTACKER[4])

    def done() -> dict[str, bool]:
        with Ledger(sentry.settings.paths.ledger) as ledger:
            found = {r.reaction: r.ok for r in ledger.reactions(ATTACKER[4])}
        return found if len(found) == 2 else {}

    assert wait_for(done, "both in the ledger") == {"command": True, "hosts_deny": True}
    assert said.read_text() == f"0\n{ATTACKER[4]} {UNLISTED[-1]}\n"
    assert f"ALL: {ATTACKER[4]}\n" in deny.read_text()
    assert deny.stat().st_uid == 0
    sentry.stop()
    wait_for(lambda: not helper.runs(), "the helper ends with the daemon")


@pytest.mark.parametrize("end", [Sentry.stop, Sentry.kill], ids=["SIGTERM", "kill-9"])
def test_a_command_of_the_helper_ends_with_the_daemon(
    lab: Lab,
    make_daemon: MakeDaemon,
    user: pwd.struct_passwd,
    tmp_path: Path,
    end: Callable[[Sentry], None],
) -> None:
    sentry = _by_root(make_daemon, _settings(tmp_path / "hosts.deny", ["/bin/sleep", "63"]))
    sentry.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    sentry.alert(ATTACKER[4])

    def sleepers() -> list[Process]:
        return [child for child in below(sentry.process.pid) if child.words[:1] == ["/bin/sleep"]]

    [sleeper] = wait_for(sleepers, "it runs")
    end(sentry)
    wait_for(lambda: not sleeper.runs(), "it has ended")


def test_without_the_helper_the_reaction_is_reported_as_failed(
    lab: Lab, make_daemon: MakeDaemon, user: pwd.struct_passwd, tmp_path: Path
) -> None:
    """The daemon starts as by the service, and the helper is not installed."""
    deny = tmp_path / "hosts.deny"
    sentry = make_daemon(_settings(deny, ["/bin/true"]))
    users.own(sentry.home)
    sentry.command = [*users.demoted("+net_admin"), *sentry.command]
    sentry.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    assert sentry.alert(ATTACKER[4])["alert"]["action"] == "blocked"

    def failures() -> dict[str, str]:
        with Ledger(sentry.settings.paths.ledger) as ledger:
            found = {r.reaction: r.detail for r in ledger.reactions(ATTACKER[4]) if not r.ok}
        return found if len(found) == 2 else {}

    for detail in wait_for(failures, "both failed").values():
        assert "run `sentryfw install`, which creates it" in detail
    assert not deny.exists()


def test_a_configuration_that_others_could_write_runs_nothing_as_root(
    make_daemon: MakeDaemon, user: pwd.struct_passwd, tmp_path: Path
) -> None:
    sentry = _by_root(make_daemon, _settings(tmp_path / "hosts.deny", ["/bin/true"]))
    sentry.config.chmod(0o666)
    process = sentry.launch()
    assert process.wait(20) == 1, sentry.log()
    assert "writable by root alone" in sentry.log()
