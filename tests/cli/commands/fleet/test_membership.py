"""fleet join and leave, as a user types them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentryfw.setup.fleet.hub_files import HubFiles, HubPlan
from support.box import Box
from support.host import environment

pytestmark = pytest.mark.netns


@pytest.fixture
def word(tmp_path: Path) -> str:
    files = HubFiles(tmp_path / "hub")
    made = files.write(HubPlan(("192.0.2.1",)), {"fw1": "11" * 32, "fw2": "22" * 32},
                       datetime.now(UTC))  # fmt: skip
    return made["fw2"].encode()


def join(box: Box, text: str, *words: str) -> tuple[int, str]:
    """Run `fleet join` with a text on its standard input; return its exit code and output."""
    given = box.home / "given"
    given.write_text(text)
    done = box.namespace.run(
        "sh", "-c", 'file=$1; shift; exec "$@" < "$file"', "sh", given,
        *box.launch("-c", str(box.config), "fleet", "join", *words), env=environment(None),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_joining_and_leaving(box: Box, word: str) -> None:
    before = sorted(box.home.rglob("*.toml"))
    code, said = join(box, word, "--trust", "full")
    assert code == 0, said
    assert f"member fw1, trust full, key {'11' * 32}" in said
    assert "sudo sentryfw install" in said
    checked = box.sentryfw("check")
    assert checked.returncode == 0, checked.stderr
    left = box.sentryfw("fleet", "leave")
    assert left.returncode == 0, left.stderr
    assert left.stdout.count("removed ") == 2
    assert sorted(box.home.rglob("*.toml")) == before
    again = box.sentryfw("fleet", "leave")
    assert again.stdout == "nothing to remove: this firewall did not join a fleet\n"


@pytest.mark.parametrize("text", ["", "hello", "sentryfw1.AAAA"])
def test_another_text_than_an_invitation_is_refused(box: Box, text: str) -> None:
    code, said = join(box, text)
    assert code == 2
    assert "this is not an invitation" in said


def test_both_need_root(box: Box) -> None:
    assert box.sentryfw("fleet", "leave", as_root=False).returncode == 4
