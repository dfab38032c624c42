"""allow: the list, the kernel, and what is blocked; without a daemon, and with one."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from sentryfw.engine.networks import NetworkIndex
from sentryfw.host import allowed_names, protected
from support.box import Box
from support.fake_host import FakeHost
from support.host import GATEWAY, Host
from support.waiting import wait_for

FRIEND = "203.0.113.7"


def is_spared(host: Host, text: str) -> bool:
    return NetworkIndex(host.never_blocked()).covers(ip_network(text))


def listed(host: Host, *words: str) -> list[dict[str, Any]]:
    done = host.sentryfw("allow", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(
    params=[
        "fake",
        pytest.param("kernel", marks=pytest.mark.netns),
        pytest.param("daemon", marks=pytest.mark.netns),
    ]
)
def followed(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host in memory, a host, and a host with a daemon that has to follow."""
    if request.param == "fake":
        yield request.getfixturevalue("host")
        return
    box: Box = request.getfixturevalue("installed")
    daemon = box.start_daemon() if request.param == "daemon" else None
    yield box
    if daemon is not None:
        daemon.terminate()
        daemon.wait()


@pytest.mark.parametrize("text", [FRIEND, "203.0.113.0/24", "2001:db8:7::/48"])
def test_what_allow_reports_is_accepted_by_the_kernel(followed: Host, text: str) -> None:
    assert not is_spared(followed, text)
    done = followed.sentryfw("allow", "add", text, "--comment", "a partner")
    assert done.returncode == 0, done.stderr
    assert is_spared(followed, text)
    [row] = listed(followed)
    assert (row["why"], row["comment"]) == ("allowlist", "a partner")
    done = followed.sentryfw("allow", "del", text)
    assert done.returncode == 0, done.stderr
    assert not is_spared(followed, text)
    assert listed(followed) == []


def test_who_is_blocked_and_allowed_is_unblocked(followed: Host) -> None:
    followed.sentryfw("block", FRIEND)
    assert FRIEND in followed.elements("block4")
    assert followed.sentryfw("allow", "add", "203.0.113.0/24").returncode == 0
    wait_for(lambda: FRIEND not in followed.elements("block4"), "unblocked")
    done = followed.sentryfw("block", FRIEND)
    assert done.returncode == 1
    assert "never blocked (allowlist)" in done.stderr


def test_an_import_names_its_faulty_lines_and_takes_the_others(followed: Host) -> None:
    path = followed.home / "list.txt"
    path.write_text("# friends\n203.0.113.7\nnonsense\n0.0.0.0/0\n2001:db8::/32\n203.0.113.7\n")
    done = followed.sentryfw("allow", "import", path)
    assert (done.returncode, done.stdout) == (0, "allowed 2 more; 0 were on the list already\n")
    assert f"{path}:3: 'nonsense' is neither" in done.stderr
    assert f"{path}:4: '0.0.0.0/0' covers all addresses" in done.stderr
    assert is_spared(followed, "203.0.113.7")
    assert is_spared(followed, "2001:db8::/32")
    done = followed.sentryfw("allow", "import", path)
    assert done.stdout == "allowed 0 more; 2 were on the list already\n"


@pytest.mark.netns
def test_before_install_the_list_is_kept_for_it(box: Box) -> None:
    done = box.sentryfw("allow", "add", FRIEND)
    assert done.returncode == 0
    assert "`sentryfw install` applies the list" in done.stdout
    box.install()
    assert is_spared(box, FRIEND)


def test_it_reports_an_entry_that_existed(host: Host) -> None:
    host.sentryfw("allow", "add", FRIEND)
    done = host.sentryfw("allow", "add", FRIEND)
    assert (done.returncode, done.stdout) == (0, f"{FRIEND}/32 was on the allowlist already\n")
    assert len(listed(host)) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "nowhere"), 2, "neither an address nor a network, nor a name with a dot"),
        (("add", "192.0.2.300"), 2, "neither an address nor a network\n"),
        (("add", "0.0.0.0/0"), 2, "covers all addresses"),
        (("add", "010.0.0.1"), 2, "a leading zero means"),
        (("del", FRIEND), 7, "is not on the allowlist"),
        (("del", GATEWAY), 7, "never blocked as gateway"),
        (("import", "/nowhere/list"), 1, "/nowhere/list: No such file"),
        (("import", "/dev/null"), 1, "contains no address"),
    ],
    ids=[
        "nonsense",
        "no octet",
        "everybody",
        "octal",
        "not there",
        "a gateway",
        "no file",
        "empty file",
    ],
)
def test_what_cannot_be_done_changes_nothing(
    host: Host, words: tuple[str, ...], code: int, said: str
) -> None:
    before = host.never_blocked()
    done = host.sentryfw("allow", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert host.never_blocked() == before
    assert listed(host) == []


def test_an_address_within_a_listed_network_names_the_network(host: Host) -> None:
    host.sentryfw("allow", "add", "203.0.113.0/24")
    done = host.sentryfw("allow", "del", FRIEND)
    assert done.returncode == 7
    assert "only as part of 203.0.113.0/24" in done.stderr


def test_all_names_who_else_is_spared(host: Host) -> None:
    host.sentryfw("allow", "add", FRIEND)
    found = {row["network"]: row["why"] for row in listed(host, "--all")}
    assert found[f"{FRIEND}/32"] == "allowlist"
    assert found[f"{GATEWAY}/32"] == "gateway"


@pytest.mark.netns
def test_only_root_changes_it(installed: Box) -> None:
    done = installed.sentryfw("allow", "add", FRIEND, as_root=False)
    assert done.returncode == 4
    assert not is_spared(installed, FRIEND)


@pytest.mark.netns
def test_the_daemon_follows_an_editor_within_seconds(installed: Box) -> None:
    """The allowlist's own file, and a file of [never_block] files."""
    named = installed.home / "friends"
    named.write_text("")
    installed.configure(f'[never_block]\nfiles = ["{named}"]')
    daemon = installed.start_daemon()
    installed.settings.paths.allowlist.write_text(f"{FRIEND}\n")
    named.write_text("198.51.100.0/24\n")
    wait_for(lambda: is_spared(installed, FRIEND), "the list is followed", 3)
    wait_for(lambda: is_spared(installed, "198.51.100.0/24"), "the file is followed", 3)
    daemon.terminate()
    assert daemon.wait() == 0


# --- an end


def test_a_line_with_an_end_is_accepted_until_then(
    host: Host,
) -> None:
    done = host.sentryfw("allow", "add", FRIEND, "--until", "1h", "--comment", "a visitor")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"allowed {FRIEND}/32 until ")
    [row] = listed(host)
    assert row["comment"] == "a visitor"
    left = datetime.fromisoformat(row["until"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    [allowed] = protected.allowed(host.settings.paths)
    assert allowed.network == ip_network(FRIEND)


def test_a_line_whose_end_is_over_protects_no_source(host: Host) -> None:
    path = host.settings.paths.allowlist
    path.write_text(f"{FRIEND}  # until 2020-01-01T00:00:00Z gone\n203.0.113.8  # until then\n")
    assert [str(item.network) for item in protected.allowed(host.settings.paths)] == [
        "203.0.113.8/32"
    ]
    assert [row["until"] is None for row in listed(host)] == [False, True]


def test_a_line_that_is_over_or_gets_an_end_is_replaced(host: Host) -> None:
    path = host.settings.paths.allowlist
    path.write_text(f"{FRIEND}  # until 2020-01-01T00:00:00Z gone\n")
    host.sentryfw("allow", "add", FRIEND)
    assert path.read_text() == f"{FRIEND}\n"
    host.sentryfw("allow", "add", FRIEND, "--until", "1d")
    assert [row["until"] is None for row in listed(host)] == [False]


@pytest.mark.parametrize("end", ["tomorrow", "2020-01-01", "-5m", "0s", "2026-13-40"])
def test_an_end_that_is_none_or_over_is_a_wrong_use(host: Host, end: str) -> None:
    assert host.sentryfw("allow", "add", FRIEND, "--until", end).returncode == 2
    assert listed(host) == []


# --- names

NAME = "office.example.org"


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...] | None]:
    """The resolvers' addresses by family; None: no answer."""
    answers: dict[str, tuple[str, ...] | None] = {"4": (FRIEND,), "6": ()}

    def look_up(_name: str, family: str) -> allowed_names.Lookup:
        found = answers[family]
        if found is None:
            raise TimeoutError
        return allowed_names.Lookup(found, 300.0)

    monkeypatch.setattr(allowed_names, "look_up", look_up)
    return answers


def test_a_name_is_allowed_by_its_addresses(bare_host: FakeHost, dns: dict[str, Any]) -> None:
    bare_host.install()
    dns["6"] = ("2001:db8:7::1",)
    bare_host.add_block(FRIEND)
    done = bare_host.sentryfw("allow", "add", NAME.upper(), "--comment", "us")
    assert done.returncode == 0, done.stderr
    assert f"allowed {NAME} ({FRIEND}, 2001:db8:7::1)" in done.stdout
    assert f"unblocked {FRIEND}" in done.stdout
    assert is_spared(bare_host, FRIEND)
    assert is_spared(bare_host, "2001:db8:7::1")
    [row] = listed(bare_host)
    assert (row["network"], row["addresses"]) == (NAME, [FRIEND, "2001:db8:7::1"])
    blocked = bare_host.sentryfw("block", FRIEND)
    assert f"never blocked (allowlist: {NAME})" in blocked.stderr
    done = bare_host.sentryfw("allow", "del", NAME)
    assert done.returncode == 0, done.stderr
    assert not is_spared(bare_host, FRIEND)


def test_a_name_without_an_address_is_refused(bare_host: FakeHost, dns: dict[str, Any]) -> None:
    dns["4"] = ()
    done = bare_host.sentryfw("allow", "add", NAME)
    assert done.returncode == 7
    assert "know no address of it; nothing was changed" in done.stderr
    assert listed(bare_host) == []


def test_a_name_is_kept_while_dns_is_away(bare_host: FakeHost, dns: dict[str, Any]) -> None:
    dns |= {"4": None, "6": None}
    done = bare_host.sentryfw("allow", "add", NAME)
    assert done.returncode == 0, done.stderr
    assert "no resolver answers; it has no address: the daemon asks again" in done.stdout
    assert done.stdout.endswith(f"allowed {NAME}\n")
    assert [row["network"] for row in listed(bare_host)] == [NAME]


def test_a_name_that_is_not_listed_cannot_be_removed(bare_host: FakeHost) -> None:
    done = bare_host.sentryfw("allow", "del", NAME)
    assert (done.returncode, done.stderr) == (7, f"sentryfw: {NAME} is not on the allowlist\n")


def test_an_import_has_one_reason_and_one_end(host: Host) -> None:
    path = host.home / "list.txt"
    path.write_text("203.0.113.7\n198.51.100.0/24\n")
    host.sentryfw("allow", "add", FRIEND)
    words = ("import", path, "--until", "1w", "--comment", "the auditors")
    done = host.sentryfw("allow", *words)
    assert (done.returncode, done.stdout) == (0, "allowed 2 more; 0 were on the list already\n")
    rows = {row["network"]: row for row in listed(host)}
    assert rows[f"{FRIEND}/32"]["comment"] == "the auditors"
    assert rows["198.51.100.0/24"]["comment"] == "the auditors"
    assert rows["198.51.100.0/24"]["until"]


@pytest.mark.netns
def test_the_daemon_follows_the_answers_and_the_end(installed: Box) -> None:
    paths = installed.settings.paths
    daemon = installed.start_daemon()
    at = time.time()
    answer = {"addresses": [FRIEND], "good": at, "due": at + 3000, "fault": ""}
    never = {"addresses": [], "good": 0.0, "due": at + 3000, "fault": allowed_names.DENIED}
    paths.allowlist_names.write_text(json.dumps({NAME: {"4": answer, "6": never}}))
    paths.allowlist.write_text(f"{NAME}\n198.51.100.0/24  # until 2099-01-01T00:00:00Z\n")
    wait_for(lambda: is_spared(installed, FRIEND), "the name is followed", 5)
    assert is_spared(installed, "198.51.100.0/24")
    answer["addresses"] = ["203.0.113.99"]
    paths.allowlist_names.write_text(json.dumps({NAME: {"4": answer, "6": never}}))
    wait_for(lambda: is_spared(installed, "203.0.113.99"), "the next answer", 5)
    assert not is_spared(installed, FRIEND)
    daemon.terminate()
    assert daemon.wait() == 0
