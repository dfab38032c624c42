"""libnftables through its binding: commands, checks, refusals, and networks in its JSON."""

import json
from ipaddress import ip_network
from typing import Any

import pytest

from sentryfw.errors import NoPrivilege, SentryError, Unsupported
from sentryfw.netfilter import libnftables
from sentryfw.netfilter.libnftables import Libnftables, NftError, listed_networks
from sentryfw.tools.drill.namespace import Namespace


@pytest.mark.netns
def test_commands_run_as_one_transaction(namespace: Namespace) -> None:
    nft = namespace.call(Libnftables)
    assert nft.run("add table inet tried; add chain inet tried c") == ""
    assert "chain c" in nft.run("list ruleset")
    with pytest.raises(NftError, match="nft refused:\nError: "):
        nft.run("delete chain inet tried c; add chain inet other c")
    assert "chain c" in nft.run("list ruleset")
    listing = json.loads(nft.run("list tables", json_output=True))
    assert listing["nftables"][-1]["table"]["name"] == "tried"


@pytest.mark.netns
def test_a_check_changes_nothing(namespace: Namespace) -> None:
    nft = namespace.call(Libnftables)
    nft.check("add table inet tried")
    with pytest.raises(NftError):
        nft.check("add chain inet tried c")
    assert nft.run("list ruleset") == ""
    nft.run("add table inet tried")
    assert nft.run("list ruleset") != ""


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        ("Error: Operation not permitted", NoPrivilege, "root"),
        ("Error: Could not resolve protocol name", Unsupported, "apt install netbase"),
        ("Error: syntax error", NftError, "nft refused:\nError: syntax error"),
    ],
    ids=["privilege", "protocols", "other"],
)
def test_a_failure_names_what_to_do(message: str, error: type[SentryError], text: str) -> None:
    failure = libnftables._failure(f"{message}\n")
    assert type(failure) is error
    assert text in str(failure)


@pytest.mark.parametrize(
    ("value", "networks"),
    [
        ("198.18.0.1", ["198.18.0.1/32"]),
        ({"prefix": {"addr": "2001:2::", "len": 48}}, ["2001:2::/48"]),
        ({"range": ["198.18.0.5", "198.18.0.7"]}, ["198.18.0.5/32", "198.18.0.6/31"]),
        ({"range": ["192.0.0.0", "255.255.255.255"]}, ["192.0.0.0/2"]),
    ],
    ids=["address", "prefix", "range", "last"],
)
def test_networks_of_a_listing_are_read(value: Any, networks: list[str]) -> None:
    assert listed_networks(value) == list(map(ip_network, networks))
