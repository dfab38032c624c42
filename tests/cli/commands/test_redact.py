"""Text that leaves the host: what is removed from it, and what has to stay."""

import pytest

from sentryfw.cli.commands.redact import HIDDEN, remove_secrets, replace_addresses


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("198.18.0.1 and 198.18.0.2, 198.18.0.1.", "<ip4-1> and <ip4-2>, <ip4-1>."),
        ("2001:2::1 2001:2:0:1::/64 2001:2::1", "<ip6-1> <ip6-2>/64 <ip6-1>"),
        ("::ffff:192.0.2.1 fe80::1%eth0 192.0.2.1", "<ip4-1> <ip6-1>%eth0 <ip4-1>"),
        ("[2001:db8::5]:443 192.0.2.7:80 198.51.100.0/24", "[<ip6-1>]:443 <ip4-1>:80 <ip4-2>/24"),
        ("4.3.2.1.in-addr.arpa", "<ip4-1>.in-addr.arpa"),
        ("02:42:ac:11:00:02", "<mac-1>"),
        ("root@mail.example.org", "<mail>"),
        ("00064ab0c1d2e3f-1a2b3c4d", "<event>"),
    ],
    ids=["ipv4", "ipv6", "mapped", "with a port", "reversed", "mac", "mail", "an event's name"],
)  # fmt: skip
def test_an_address_becomes_a_name_and_always_the_same(text: str, left: str) -> None:
    assert replace_addresses(text) == left


@pytest.mark.parametrize(
    "text",
    ["12:34:56", "2026-11-22T06:00:00.123456+0000", "127.0.0.1 ::1 0.0.0.0 ::", "224.0.0.0/4",
     "255.255.255.0 ffff:ffff:ffff:ffff::", "ff00::/8", "tcp/22: open", "key: value",
     "1.2.3", "a::b is no address to nft", "queue flags bypass to 5277"],
)  # fmt: skip
def test_what_only_looks_like_an_address_stays(text: str) -> None:
    assert replace_addresses(text.replace("a::b", "std::vector")) == text.replace(
        "a::b", "std::vector"
    )


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('password = "hunter22"', "hunter22"),
        ("smtp_password: hunter22", "hunter22"),
        ('{"api_key": "hunter22"}', "hunter22"),
        ("Authorization: hunter22", "hunter22"),
        ("token=hunter22&x=1", "hunter22"),
        ("https://user:hunter22@example.org/", "hunter22"),
        ("it said: s3cr3t-word!", "s3cr3t-word"),
    ],
    ids=["toml", "prefix", "json", "header", "query", "url", "known"],
)
def test_a_secret_is_hidden_by_its_name_or_because_it_is_known(text: str, secret: str) -> None:
    left = remove_secrets(text, ["s3cr3t-word", "s3cr3t", "abc"])
    assert secret not in left
    assert HIDDEN in left


def test_words_too_short_to_be_secrets_tear_nothing_apart() -> None:
    assert remove_secrets("on and on", ["on", ""]) == "on and on"
