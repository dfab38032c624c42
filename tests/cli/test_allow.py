"""allow: the list, the kernel, and what is blocked; without a daemon, and with one."""

import json
from ipaddress import ip_network
from typing import Any

import pytest

from sentryfw.cli.allow import Ranges
from sentryfw.netfilter.table import IPNetwork, Table
from support.box import GATEWAY, NOBODY, Box
from support.waiting import wait_for

pytestmark = pytest.mark.netns

FRIEND = "203.0.113.7"


def spared(box: Box) -> list[IPNetwork]:
    table = box.namespace.call(Table)
    try:
        return table.never_blocked()
    finally:
        table.close()


def is_spared(box: Box, text: str) -> bool:
    return Ranges(spared(box)).covers(ip_network(text))


def listed(box: Box, *words: str) -> list[dict[str, Any]]:
    done = box.sentryfw("allow", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(params=[False, True], ids=["no daemon", "daemon"])
def host(request: pytest.FixtureRequest, installed: Box) -> Any:
    """The box, with and without a daemon that has to follow."""
    daemon = installed.start_daemon() if request.param else None
    yield installed
    if daemon is not None:
        daemon.terminate()
        daemon.wait()


@pytest.mark.parametrize("text", [FRIEND, "203.0.113.0/24", "2001:db8:7::/48"])
def test_what_is_said_to_be_allowed_is_spared_by_the_kernel(host: Box, text: str) -> None:
    assert not is_spared(host, text)
    done = host.sentryfw("allow", "add", text, "--comment", "a partner")
    assert done.returncode == 0, done.stderr
    assert is_spared(host, text)
    [row] = listed(host)
    assert (row["why"], row["comment"]) == ("allowlist", "a partner")
    done = host.sentryfw("allow", "del", text)
    assert done.returncode == 0, done.stderr
    assert not is_spared(host, text)
    assert listed(host) == []


def test_who_is_blocked_and_allowed_is_unblocked(host: Box) -> None:
    host.sentryfw("block", FRIEND)
    assert FRIEND in host.elements("block4")
    assert host.sentryfw("allow", "add", "203.0.113.0/24").returncode == 0
    wait_for(lambda: FRIEND not in host.elements("block4"), "unblocked")
    done = host.sentryfw("block", FRIEND)
    assert done.returncode == 1
    assert "never blocked (allowlist)" in done.stderr


def test_an_import_names_its_faulty_lines_and_takes_the_others(host: Box) -> None:
    path = host.home / "list.txt"
    path.write_text("# friends\n203.0.113.7\nnonsense\n0.0.0.0/0\n2001:db8::/32\n203.0.113.7\n")
    done = host.sentryfw("allow", "import", path)
    assert (done.returncode, done.stdout) == (0, "allowed 2 more; 0 were on the list already\n")
    assert f"{path}:3: 'nonsense' is neither" in done.stderr
    assert f"{path}:4: '0.0.0.0/0' is everybody" in done.stderr
    assert is_spared(host, "203.0.113.7")
    assert is_spared(host, "2001:db8::/32")
    done = host.sentryfw("allow", "import", path)
    assert done.stdout == "allowed 0 more; 2 were on the list already\n"


def test_before_install_the_list_is_kept_for_it(box: Box) -> None:
    done = box.sentryfw("allow", "add", FRIEND)
    assert done.returncode == 0
    assert "holds from `sentryfw install` on" in done.stdout
    box.sentryfw("install", "--no-service")
    assert is_spared(box, FRIEND)


def test_it_says_that_it_was_there_before(installed: Box) -> None:
    installed.sentryfw("allow", "add", FRIEND)
    done = installed.sentryfw("allow", "add", FRIEND)
    assert (done.returncode, done.stdout) == (0, f"{FRIEND}/32 was on the allowlist already\n")
    assert len(listed(installed)) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "nowhere"), 2, "neither an address nor a network"),
        (("add", "0.0.0.0/0"), 2, "is everybody"),
        (("add", "010.0.0.1"), 2, "a leading zero means"),
        (("del", FRIEND), 7, "is not on the allowlist"),
        (("del", GATEWAY), 7, "never blocked as gateway"),
        (("import", "/nowhere/list"), 1, "/nowhere/list: No such file"),
        (("import", "/dev/null"), 1, "no address in it"),
    ],
    ids=["nonsense", "everybody", "octal", "not there", "a gateway", "no file", "empty file"],
)
def test_what_cannot_be_done_changes_nothing(
    installed: Box, words: tuple[str, ...], code: int, said: str
) -> None:
    before = spared(installed)
    done = installed.sentryfw("allow", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert spared(installed) == before
    assert listed(installed) == []


def test_an_address_within_a_listed_network_names_the_network(installed: Box) -> None:
    installed.sentryfw("allow", "add", "203.0.113.0/24")
    done = installed.sentryfw("allow", "del", FRIEND)
    assert done.returncode == 7
    assert "only within 203.0.113.0/24" in done.stderr


def test_all_names_who_else_is_spared(installed: Box) -> None:
    installed.sentryfw("allow", "add", FRIEND)
    found = {row["network"]: row["why"] for row in listed(installed, "--all")}
    assert found[f"{FRIEND}/32"] == "allowlist"
    assert found[f"{GATEWAY}/32"] == "gateway"


def test_nobody_but_root_changes_it(installed: Box) -> None:
    done = installed.sentryfw("allow", "add", FRIEND, prefix=NOBODY)
    assert done.returncode == 4
    assert not is_spared(installed, FRIEND)


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
