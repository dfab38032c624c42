"""Additions to the allowlist's text, removals from it, and lines that people wrote."""

from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.host import allow_file
from sentryfw.host.address_list import MAX_BYTES

OFFICE = "192.0.2.0/24"
WRITTEN = f"# ours\n{OFFICE}  # office\n198.51.100.1, 198.51.100.2 ; two of them\n2001:db8::1\n"


@pytest.mark.parametrize(
    ("network", "comment", "line"),
    [
        ("203.0.113.7/32", "", "203.0.113.7"),
        ("203.0.113.0/24", "a partner", "203.0.113.0/24  # a partner"),
        ("2001:db8::/32", "", "2001:db8::/32"),
        ("203.0.113.7/32", "two\nlines\x1b[2J; ::/1", "203.0.113.7  # two?lines?[2J, ::/1"),
    ],
    ids=["address", "comment", "ipv6", "hostile comment"],
)  # fmt: skip
def test_an_addition_is_one_line_at_the_end(network: str, comment: str, line: str) -> None:
    made = allow_file.with_added(WRITTEN, [ip_network(network)], comment)
    assert made == f"{WRITTEN}{line}\n"
    added = allow_file.entries(made)[len(allow_file.entries(WRITTEN)) :]
    assert [entry.what for entry in added] == [ip_network(network)]


def test_an_addition_begins_a_line_of_its_own() -> None:
    made = allow_file.with_added("192.0.2.1", [ip_network("192.0.2.2")], "")
    assert made == "192.0.2.1\n192.0.2.2\n"


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (OFFICE, WRITTEN.replace(f"{OFFICE}  # office\n", "")),
        ("198.51.100.1/32", WRITTEN.replace("198.51.100.1, 198.51.100.2 ;", "198.51.100.2  #")),
        ("2001:db8::1/128", WRITTEN.replace("2001:db8::1\n", "")),
        ("203.0.113.9/32", WRITTEN),
    ],
    ids=["a line of its own", "one of two", "ipv6", "not there"],
)
def test_what_goes_takes_nothing_else_with_it(network: str, left: str) -> None:
    assert allow_file.without(WRITTEN, ip_network(network)) == left


def test_entries_have_their_comments() -> None:
    found = {str(entry.what): entry.comment for entry in allow_file.entries(WRITTEN)}
    assert found == {
        OFFICE: "office",
        "198.51.100.1/32": "two of them",
        "198.51.100.2/32": "two of them",
        "2001:db8::1/128": "",
    }


def test_a_list_that_would_be_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state" / "allowlist"
    allow_file.write(path, "192.0.2.1\n")
    with pytest.raises(SentryError, match="nothing was changed"):
        allow_file.write(path, "#" * (MAX_BYTES + 1))
    assert allow_file.read(path) == "192.0.2.1\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("192.0.2.1\n")
    (tmp_path / "allowlist").symlink_to(tmp_path / "secret")
    with pytest.raises(SentryError):
        allow_file.read(tmp_path / "allowlist")


def test_names_are_kept_as_networks_are() -> None:
    text = "a.example, 192.0.2.7  # two\nb.example\n"
    assert allow_file.names(text) == ["a.example", "b.example"]
    assert allow_file.without(text, "a.example") == "192.0.2.7  # two\nb.example\n"
    assert allow_file.without(text, "b.example") == "a.example, 192.0.2.7  # two\n"
    made = allow_file.with_added("", ["c.example"], "us", datetime(2099, 1, 1, tzinfo=UTC))
    assert made == "c.example  # until 2099-01-01T00:00:00Z us\n"
    assert allow_file.names(f"{made}d.example  # until 2020-01-01T00:00:00Z\n") == ["c.example"]
