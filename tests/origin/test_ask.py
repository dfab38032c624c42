"""Origins looked up by another process."""

import subprocess
import sys
from pathlib import Path

import pytest

from sentryfw.config.origin import Geo, Labels
from sentryfw.errors import SentryError
from sentryfw.origin import ask as module
from sentryfw.origin.ask import ask
from sentryfw.origin.model import NOWHERE, Origin
from support.origins import GERMAN, SCANNER, SYSTEM, write_mmdb


def test_another_process_answers(tmp_path: Path) -> None:
    geo = Geo(databases=(write_mmdb(tmp_path / "a.mmdb", {"203.0.113.0/24": GERMAN | SYSTEM}),))
    (tmp_path / "list").write_text(f"{SCANNER} Research\n")
    labels = Labels(files=(tmp_path / "list", tmp_path / "no"))
    found, faults = ask(geo, labels, [SCANNER, "198.51.100.1", "2001:db8::/64"])
    assert found == {
        SCANNER: Origin("DE", 64500, "Example Net", ("Research",)),
        "198.51.100.1": NOWHERE,
        "2001:db8::/64": NOWHERE,
    }
    assert faults == [f"{tmp_path / 'no'}: No such file or directory"]


@pytest.mark.parametrize(
    "program",
    ["import sys; sys.exit(3)", "print('no JSON')", "print('{}')", "print('[]')",
     "print('{\"origins\": {\"a\": 5}, \"faults\": []}')", "import time; time.sleep(60)"],
)  # fmt: skip
def test_a_process_that_fails_is_one_error(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(module, "COMMAND", [sys.executable, "-P", "-c", program])
    monkeypatch.setattr(module, "TIMEOUT_S", 2.0)
    with pytest.raises(SentryError, match="origins: their process failed"):
        ask(Geo(), Labels(), [SCANNER])


def test_the_daemon_loads_no_database_reader() -> None:
    program = (
        "import sys, sentryfw.daemon.main, sentryfw.respond.webhook.sender\n"
        "from sentryfw.respond.origin.finder import OriginFinder\n"
        "print([m for m in sys.modules if m.startswith(('maxminddb', 'location', '_location',"
        " 'sentryfw.origin.databases', 'sentryfw.origin.labels'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
