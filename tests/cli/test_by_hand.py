"""Blocks by hand: several at once, with a comment; what is unblocked, and what is still blocked."""

import json
from typing import Any

import pytest

from support.fake_host import FakeHost
from support.host import OWN, Host

ONE, TWO, NET = "203.0.113.7", "203.0.113.8", "203.0.113.0/24"


def listed(host: Host) -> dict[str, dict[str, Any]]:
    done = host.sentryfw("list", "--json")
    return {item["address"]: item for item in json.loads(done.stdout)}


# --- several


def test_several_are_blocked_unblocked_and_allowed(host: FakeHost) -> None:
    done = host.sentryfw("block", ONE, TWO, "203.0.114.0/24")
    assert done.stdout == f"blocked {ONE}\nblocked {TWO}\nblocked 203.0.114.0/24\n"
    done = host.sentryfw("unblock", ONE, "203.0.114.0/24")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(listed(host)) == {TWO}
    assert host.sentryfw("allow", "add", ONE, TWO, "--comment", "ours").returncode == 0
    assert listed(host) == {}
    assert host.sentryfw("allow", "del", ONE, TWO).returncode == 0
    assert json.loads(host.sentryfw("allow", "list", "--json").stdout) == []


@pytest.mark.parametrize("words", [("block",), ("unblock",), ("allow", "add"), ("allow", "del")])
def test_a_wrong_address_among_several_changes_nothing(
    host: FakeHost, words: tuple[str, ...]
) -> None:
    host.sentryfw("block", TWO)
    host.sentryfw("allow", "add", "203.0.113.9")
    before = host.ruleset()
    done = host.sentryfw(*words, TWO, "203.0.113.9", "203.0.113.300")
    assert done.returncode == 2
    assert "203.0.113.300" in done.stderr
    assert host.ruleset() == before


@pytest.mark.parametrize("words", [("203.0.113.7",), ("203.0.113.0/24",), ("--all",)], ids=" ".join)
def test_what_a_block_has_dropped_is_known_after_its_end(
    host: FakeHost, words: tuple[str, ...]
) -> None:
    host.sentryfw("block", "203.0.113.7")
    host.kernel.hit("203.0.113.7", 12, 720)
    assert host.sentryfw("unblock", *words).returncode == 0
    explained = json.loads(host.sentryfw("explain", "203.0.113.7", "--json").stdout)
    assert [block["dropped_packets"] for block in explained["blocks"]] == [12]
    host.sentryfw("block", "203.0.113.7")
    host.kernel.hit("203.0.113.7", 3, 180)
    explained = json.loads(host.sentryfw("explain", "203.0.113.7", "--json").stdout)
    assert [block["dropped_packets"] for block in explained["blocks"]] == [12, 3]
    [source] = json.loads(host.sentryfw("report", "--json").stdout)["top_sources"]
    assert source["dropped_packets"] == 15


def test_one_that_fails_does_not_keep_the_others(host: FakeHost) -> None:
    host.sentryfw("block", ONE, TWO)
    done = host.sentryfw("unblock", ONE, "203.0.113.9", TWO)
    assert (done.returncode, listed(host)) == (7, {})
    assert "203.0.113.9" in done.stderr
    done = host.sentryfw("block", OWN, ONE)
    assert (done.returncode, set(listed(host))) == (1, {ONE})


# --- comment


def test_a_comment_is_in_list_and_explain(host: FakeHost) -> None:
    host.sentryfw("block", ONE, NET.replace("113", "114"), "--comment", "ticket 12: abuse")
    assert {item["reason"] for item in listed(host).values()} == {
        "blocked by hand: ticket 12: abuse"
    }
    assert "ticket 12: abuse" in host.sentryfw("explain", ONE).stdout
    assert "ticket 12: abuse" in host.on_terminal("list", columns=120)[1]


@pytest.mark.parametrize("comment", ["\x1b[2J\u202e", "a\tb\nc", "x" * 10_000, " ", ":100: [bold]"])
def test_a_hostile_comment_is_one_short_printable_text(host: FakeHost, comment: str) -> None:
    assert host.sentryfw("block", ONE, "--comment", comment).returncode == 0
    reason = listed(host)[ONE]["reason"]
    assert reason.isprintable()
    assert len(reason) < 250
    assert host.sentryfw("list").stdout.count("\n") == 2


# --- what a network is


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("203.0.113.7/24", f"{NET} (203.0.113.7/24 has host bits: its network is blocked)"),
        (NET, NET),
        ("203.0.113.7/32", ONE),
        ("2001:db8::1/32", "2001:db8::/32 (2001:db8::1/32 has host bits: its network is blocked)"),
    ],
)
def test_host_bits_are_reported(host: FakeHost, typed: str, said: str) -> None:
    assert host.sentryfw("block", typed).stdout == f"blocked {said}\n"


# --- never-block


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (OWN, f"{OWN}/32 is never blocked (own address): a block would have no effect"),
        ("192.0.2.7", "192.0.2.7/32 is within 192.0.2.0/24, which is never blocked"),
        ("192.0.0.0/16", "192.0.0.0/16 covers 192.0.2.0/24, which is never blocked"),
    ],
)
def test_a_refusal_names_which_covers_which(host: FakeHost, typed: str, said: str) -> None:
    host.configure('[never_block]\naddresses = ["192.0.2.0/24"]')
    done = host.sentryfw("block", typed)
    assert done.returncode == 1
    assert said in done.stderr
    assert listed(host) == {}


def test_force_blocks_no_address_of_this_host(host: FakeHost) -> None:
    """It would be listed, and have no effect as long as the address is ours."""
    done = host.sentryfw("block", "--force", OWN)
    assert (done.returncode, listed(host)) == (1, {})
    assert host.sentryfw("block", "--force", f"{OWN}/24").returncode == 0


# --- unblock


def test_unblock_names_the_network_in_which_an_address_is_still_blocked(any_host: Host) -> None:
    any_host.sentryfw("block", ONE, NET)
    done = any_host.sentryfw("unblock", ONE)
    assert done.returncode == 1
    assert done.stdout == f"unblocked {ONE}, which is still blocked within {NET}: unblock that\n"
    assert set(listed(any_host)) == {NET}


@pytest.mark.parametrize(
    ("network", "inside", "outside", "said"),
    [
        (NET, [ONE, TWO, "203.0.113.128/25"], ["203.0.114.1"], f"{NET}: 3 blocks in it"),
        (NET, [NET, ONE], [], f"{NET}: 1 block in it"),
        (NET, [NET], ["203.0.112.0/24"], NET),
        (
            "2001:db8::/32",
            ["2001:db8:1::1", "2001:db8:2::/48"],
            ["2001:db9::1"],
            "2001:db8::/32: 2 blocks in it",
        ),
    ],
)
def test_a_network_is_unblocked_with_every_block_in_it(
    any_host: Host, network: str, inside: list[str], outside: list[str], said: str
) -> None:
    for address in inside:
        if address != network:
            any_host.sentryfw("block", address)
    if network in inside:
        any_host.sentryfw("block", network)
    for address in outside:
        any_host.sentryfw("block", address)
    before = set(listed(any_host))
    done = any_host.sentryfw("unblock", network)
    assert (done.returncode, done.stdout) == (0, f"unblocked {said}\n")
    assert len(before) - len(listed(any_host)) == len(inside)
    assert len(listed(any_host)) == len(outside)
    any_host.sentryfw("install", "--no-service")
    assert len(listed(any_host)) == len(outside)  # the ledger knows


def test_a_network_without_a_block_is_not_found(any_host: Host) -> None:
    any_host.sentryfw("block", "203.0.112.1")
    done = any_host.sentryfw("unblock", NET)
    assert (done.returncode, done.stdout) == (7, "")
    assert "no address in it" in done.stderr
    any_host.sentryfw("block", "203.0.0.0/16", "--force")
    done = any_host.sentryfw("unblock", NET)
    assert (done.returncode, "203.0.0.0/16: unblock that" in done.stderr) == (7, True)
