"""The daemon with CAP_NET_ADMIN and nothing else, and root beside it."""

import itertools
import json
import os
import pwd
import signal
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.control import client
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import SentryError
from sentryfw.host import account
from sentryfw.record.ledger import Ledger
from support import users
from support.box import LAUNCH
from support.inprocess import SERVICE_USER
from support.lab import (
    ATTACKER,
    BYSTANDER,
    LISTED,
    UNLISTED,
    VICTIM,
    Lab,
    Sentry,
    drain,
    waiting_packets,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

NET_ADMIN: Final = 1 << 12
MakeDaemon = Callable[[str], Sentry]


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    """The daemon's user, in this process and in those that tests start."""
    monkeypatch.setattr(account, "USER", SERVICE_USER)
    return users.service_user()


@pytest.fixture
def demoted(make_daemon: MakeDaemon, lab: Lab, user: pwd.struct_passwd) -> Sentry:
    """Return a daemon that will start as by the service; its home belongs to its user."""
    sentry: Sentry = make_daemon("")
    users.own(sentry.home)
    sentry.command = [*users.demoted("+net_admin"), *sentry.command]
    return sentry


def _sentryfw(sentry: Sentry, *words: str) -> str:
    """Run a command as root while the daemon runs, and return its output."""
    code = LAUNCH.format(program="sentryfw", root=str(sentry.home), user=SERVICE_USER)
    python = Path(sentry.command[-3]).with_name("python")
    done = sentry.lab.victim.run(python, "-P", "-c", code, "-c", sentry.config, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _identity(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(rest.split()) for name, _, rest in (ln.partition(":") for ln in lines)}


def _assert_demoted(pid: int, user: pwd.struct_passwd) -> None:
    status = _identity(pid)
    assert set(status["Uid"].split()) == {str(user.pw_uid)}
    assert set(status["Gid"].split()) == {str(user.pw_gid)}
    assert status["Groups"] == ""
    assert {int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd", "Amb")} == {NET_ADMIN}
    assert status["NoNewPrivs"] == "1"


def _assert_owned(sentry: Sentry, user: pwd.struct_passwd) -> None:
    """Assert that all files of the daemon are its own and closed to others."""
    paths = sentry.settings.paths
    for directory in (paths.state, paths.runtime, paths.log):
        for path in (directory, *directory.iterdir()):
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (user.pw_uid, user.pw_gid), path
            assert not stat.S_IMODE(status.st_mode) & 0o007, path


def test_with_net_admin_alone_it_judges_blocks_and_stops(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd
) -> None:
    lab.listen()
    demoted.start()
    _assert_demoted(demoted.process.pid, user)
    scan = ("nmap", "-sS", "-n", "-Pn", "-T4", "--max-retries", "0", "-S", ATTACKER[4], "-e")
    lab.attacker.run(*scan, "veth0", "-p", "7001-7100", VICTIM[4])
    assert demoted.alert(ATTACKER[4])["alert"]["action"] == "blocked"
    assert lab.is_blocked(ATTACKER[4])
    assert not lab.answers(ATTACKER[4])
    assert ATTACKER[4] in _sentryfw(demoted, "list")
    assert _sentryfw(demoted, "unblock", ATTACKER[4]) == f"unblocked {ATTACKER[4]}\n"
    assert lab.answers(ATTACKER[4])
    assert demoted.status()["queue"]["failures"] == 0
    _assert_owned(demoted, user)
    with demoted.config.open("a") as file:
        file.write("[watch]\nlisted_tcp = [7100]\n")
    assert _sentryfw(demoted, "reload") == "reloaded: watch.listed_tcp\n"
    assert lab.elements("listed_tcp") == {7100}
    with demoted.config.open("a") as file:
        file.write('[respond.hosts_deny]\nenabled = true\nline = "X: {address}"\n')
    with pytest.raises(SentryError) as refused:
        demoted.ask(do="reload")
    for key in ("enabled", "line"):
        assert f"respond.hosts_deny.{key} is done by root's helper" in str(refused.value)
    demoted.stop()
    notes = [e["sentryfw"].get("event") for e in demoted.events()]
    assert notes[-1] == "stop"


def test_its_socket_buffers_are_forced_without_root(lab: Lab, demoted: Sentry) -> None:
    """3,000 packets wait in the buffer of 16 MiB of a stopped daemon; the default holds 300."""
    demoted.start()
    demoted.process.send_signal(signal.SIGSTOP)
    try:
        lab.flood(3000, UNLISTED[0])
        assert waiting_packets(lab.victim) == 3000
    finally:
        demoted.process.send_signal(signal.SIGCONT)
    drain(demoted)
    assert demoted.status()["queue"]["overruns"] == 0
    assert demoted.status()["engine"]["syn"] == 3000


@pytest.mark.parametrize("owned", [True, False], ids=["own directories", "none"])
def test_without_net_admin_it_exits_with_4_and_names_the_capability(
    lab: Lab, make_daemon: MakeDaemon, user: pwd.struct_passwd, *, owned: bool
) -> None:
    sentry: Sentry = make_daemon("")
    if owned:
        users.own(sentry.home)
    sentry.home.chmod(0o755)
    sentry.command = [*users.demoted(), *sentry.command]
    assert sentry.launch().wait(20) == 4
    assert "the daemon needs CAP_NET_ADMIN" in sentry.log()
    assert "systemctl start sentryfw" in sentry.log()
    assert "Traceback" not in sentry.log()
    assert lab.nft("list ruleset") == ""


# --- root beside it


def test_root_in_the_ledger_leaves_it_writable_for_the_daemon(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd
) -> None:
    """Root opens the ledger first, so that SQLite makes -wal and -shm for root."""
    ledger = demoted.settings.paths.ledger
    with Ledger(ledger) as held:
        held.protect("192.0.2.9", "ssh peer", time.time())
        assert Path(f"{ledger}-wal").stat().st_uid == user.pw_uid
        assert Path(f"{ledger}-shm").stat().st_uid == user.pw_uid
        demoted.start()
        lab.probe(ATTACKER[4], *UNLISTED)
        demoted.alert(ATTACKER[4])
        wait_for(lambda: held.latest_blocks([ATTACKER[4]]), "the daemon wrote into root's -wal")
    _sentryfw(demoted, "block", BYSTANDER[4])
    assert demoted.status()["lost_records"] == 0
    _assert_owned(demoted, user)


def test_root_makes_a_new_ledger_for_the_owner_of_the_directory(
    demoted: Sentry, user: pwd.struct_passwd
) -> None:
    with Ledger(demoted.settings.paths.ledger):
        _assert_owned(demoted, user)
    assert os.geteuid() == 0
    demoted.start()


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal"])
def test_root_does_not_follow_links_of_the_daemons_user(
    demoted: Sentry, tmp_path: Path, name: str
) -> None:
    """A link to a file of root is not opened."""
    ledger = demoted.settings.paths.ledger
    secret = tmp_path / "secret"
    secret.write_bytes(b"")
    secret.chmod(0o600)
    if name.endswith("-wal"):
        with closing(sqlite3.connect(ledger)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    (ledger.parent / name).unlink(missing_ok=True)
    (ledger.parent / name).symlink_to(secret)
    with pytest.raises(Exception, match=r"ledger\.db: "):
        Ledger(ledger)
    assert secret.read_bytes() == b""
    assert os.geteuid() == 0


# --- started by root


def test_root_becomes_the_owner_of_the_state_for_good(
    lab: Lab, make_daemon: MakeDaemon, user: pwd.struct_passwd
) -> None:
    """A daemon that root starts by hand becomes the user that install made; /run is empty."""
    sentry: Sentry = make_daemon("")
    users.own(sentry.home)
    sentry.settings.paths.runtime.rmdir()
    code = (
        "from sentryfw.host import account; from sentryfw.daemon import main;"
        f" account.USER = {SERVICE_USER!r};"
        f"import sys; sys.argv[0] = 'sentryfwd'; main.main()"
    )
    python = Path(sentry.command[0]).with_name("python")
    sentry.command = [python, "-P", "-c", code, *sentry.command[1:]]
    sentry.start()
    _assert_demoted(sentry.process.pid, user)
    _assert_owned(sentry, user)
    lab.listen(LISTED)
    lab.probe(ATTACKER[4], *UNLISTED)
    sentry.alert(ATTACKER[4])
    assert not lab.answers(ATTACKER[4])


def test_root_stays_root_where_the_state_is_roots(
    make_daemon: MakeDaemon, user: pwd.struct_passwd
) -> None:
    sentry: Sentry = make_daemon("").start()
    assert _identity(sentry.process.pid)["Uid"].split() == ["0"] * 4
    assert sentry.settings.paths.state.stat().st_uid == 0 != user.pw_uid


# --- the command line without root


def _as_member(sentry: Sentry, *words: str, groups: str = "") -> tuple[int, str, str]:
    """Run a command as another user, in these groups."""
    joined = f"--groups={groups}" if groups else "--clear-groups"
    program = Path(sys.executable).with_name("sentryfw")
    command = ["setpriv", "--reuid=65534", "--regid=65534", joined, program, "-c", sentry.config]
    done = sentry.lab.victim.run(*command, *words)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def _without(items: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key not in names} for item in items]


def test_the_group_lists_what_root_lists(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd
) -> None:
    demoted.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    lab.probe(ATTACKER[6], *UNLISTED)
    for family in (4, 6):
        demoted.alert(ATTACKER[family])
    _sentryfw(demoted, "block", "203.0.113.0/24")
    with Ledger(demoted.settings.paths.ledger) as ledger:
        wait_for(lambda: len(ledger.latest_blocks([ATTACKER[4], "2001:2:0:1::/64"])) == 2, "both")
    code, output, _ = _as_member(demoted, "list", "--json", groups=str(user.pw_gid))
    assert code == 0
    theirs, ours = json.loads(output), json.loads(_sentryfw(demoted, "list", "--json"))
    assert {item["address"] for item in theirs} == {
        ATTACKER[4], "2001:2:0:1::/64", "203.0.113.0/24",
    }  # fmt: skip
    assert _without(theirs, "expires_in_s") == _without(ours, "expires_in_s")
    assert {item["reason"] for item in theirs} >= {"blocked by hand"}


def test_the_group_may_watch(lab: Lab, demoted: Sentry, user: pwd.struct_passwd) -> None:
    demoted.start()
    _sentryfw(demoted, "block", "203.0.113.7")
    lab.probe(ATTACKER[4], *UNLISTED[:2])
    wait_for(lambda: demoted.status()["tracked_sources"] == 1, "a tracked source")
    code, output, _ = _as_member(demoted, "watch", "--once", "--json", groups=str(user.pw_gid))
    assert code == 0
    view = json.loads(output)
    assert [item["address"] for item in view["blocks"]] == ["203.0.113.7"]
    assert [item["address"] for item in view["sources"]] == [ATTACKER[4]]
    assert view["rates"]["judged"] == 0


def test_the_group_sees_the_status_that_root_sees(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd
) -> None:
    demoted.start()
    lab.table.sets.block([(parse_source(ATTACKER[4]), 600.0)])
    code, output, _ = _as_member(demoted, "status", "--json", groups=str(user.pw_gid))
    assert code == 0
    theirs, ours = json.loads(output), json.loads(_sentryfw(demoted, "status", "--json"))
    assert theirs["queue"].pop("kernel") == {}  # for root alone
    assert ours["queue"].pop("kernel")["dropped"] == 0
    assert _without([theirs], "engine", "memory_bytes") == _without(
        [ours], "engine", "memory_bytes"
    )  # it counts the work of its ticks
    assert theirs["blocked4"] == 1


@pytest.mark.parametrize("words", [("unblock", ATTACKER[4]), ("block", BYSTANDER[4])], ids=" ".join)
def test_the_group_changes_nothing(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd, words: tuple[str, ...]
) -> None:
    demoted.start()
    lab.table.sets.block([(parse_source(ATTACKER[4]), 600.0)])
    code, _, said = _as_member(demoted, *words, groups=str(user.pw_gid))
    assert code == 4
    assert "run it with sudo" in said
    assert [blocked.address for blocked in lab.table.sets.blocked_sources()] == [ATTACKER[4]]


@pytest.mark.parametrize("words", [("status",), ("list",)], ids=" ".join)
def test_other_users_are_refused_and_the_group_named(
    demoted: Sentry, words: tuple[str, ...]
) -> None:
    demoted.start()
    code, output, said = _as_member(demoted, *words)
    assert (code, output) == (4, "")
    assert "only root and the group sentryfw may ask the daemon" in said


@pytest.mark.parametrize("words", [("status",), ("list",)], ids=" ".join)
def test_without_root_and_daemon_the_missing_part_is_reported(
    demoted: Sentry, user: pwd.struct_passwd, words: tuple[str, ...]
) -> None:
    code, output, said = _as_member(demoted, *words, groups=str(user.pw_gid))
    assert (code, output) == (3, "")
    assert "the daemon is not running, and without it only root" in said


@pytest.mark.serial
def test_a_long_list_does_not_hold_the_packets_up(
    lab: Lab, demoted: Sentry, user: pwd.struct_passwd
) -> None:
    """A scanner is blocked as fast while 10,000 blocks are listed repeatedly."""
    demoted.start()
    blocks = ((Source((0x0B000000 + n).to_bytes(4)), 600.0) for n in range(10_000))
    for part in iter(lambda: list(itertools.islice(blocks, 200)), []):
        lab.table.sets.block(part)
    path = demoted.settings.paths.control
    with ThreadPoolExecutor(3) as readers:
        begun = threading.Barrier(4)
        lists = [readers.submit(_list, path, begun) for _ in range(3)]
        begun.wait(10)
        started = time.monotonic()
        lab.probe(ATTACKER[4], *UNLISTED)
        wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
        assert time.monotonic() - started < 0.5
        assert not any(listed.done() for listed in lists)
        assert all(len(listed.result()) >= 10_000 for listed in lists)


def _list(path: Path, begun: threading.Barrier) -> list[client.Answer]:
    answers = client.ask_stream(path, {"do": "list"})
    first = next(answers)
    begun.wait(10)
    return [first, *answers]
