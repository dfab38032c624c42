"""fleet init, as a user types it."""

import json
from pathlib import Path

import pytest

from sentryfw.setup.fleet.invitation import decode
from support.box import Box

pytestmark = pytest.mark.netns
KEY = "ab" * 32


def test_it_prints_a_line_for_each_member_and_how_to_start_the_hub(
    box: Box, tmp_path: Path
) -> None:
    words = ("fleet", "init", "--address", "192.0.2.1", "--directory", tmp_path / "hub")
    done = box.sentryfw(*words, "--member", f"fw1={KEY}", "--member", f"fw2={KEY}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0::2] == ["# fw1", "# fw2"]
    for name, line in zip(("fw1", "fw2"), lines[1::2], strict=True):
        echo, word, *rest = line.split()
        assert (echo, rest) == ("echo", ["|", "sudo", "sentryfw", "fleet", "join"])
        access = decode(word).access
        assert access is not None
        assert access.name == name
    assert "redis-server@sentryfw" in done.stderr
    again = box.sentryfw(*words, "--member", f"fw3={KEY}", "--json")
    found = {name: decode(word) for name, word in json.loads(again.stdout).items()}
    assert [name for name, made in found.items() if made.access is None] == ["fw1", "fw2"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--member", f"fw1={KEY}"), "--address"),
        (("--address", "192.0.2.1"), "--member"),
        (("--address", "192.0.2.1", "--member", "fw1"), "write NAME=KEY"),
        (("--address", "192.0.2.1", "--member", "fw1=12"), "64 hexadecimal digits"),
        (("--address", "a b", "--member", f"fw1={KEY}"), "is not an address"),
    ],
)
def test_wrong_words_are_named(
    box: Box, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    done = box.sentryfw("fleet", "init", "--directory", tmp_path / "hub", *words)
    assert done.returncode == 2
    assert problem in done.stderr
    assert not (tmp_path / "hub" / "users.acl").exists()


def test_it_needs_root(box: Box, tmp_path: Path) -> None:
    words = ("--address", "192.0.2.1", "--member", f"fw1={KEY}")
    done = box.sentryfw("fleet", "init", *words, as_root=False)
    assert done.returncode == 4
