"""`make table`: the table of a configuration, listed without being installed."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from sentryfw.netfilter.schema import COMMENT
from sentryfw.tools.table import main

pytestmark = [pytest.mark.netns]

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIG: Final = """
[watch]
interfaces = ["wan*"]
upper_tcp = 1024
[decoy]
tcp = [2323]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "sentryfw.toml"
    path.write_text(CONFIG)
    return path


def _host_ruleset() -> str:
    return subprocess.run(
        ["nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


def test_the_table_of_a_configuration_is_printed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _host_ruleset()
    assert main([str(file)]) == 0
    printed = capsys.readouterr().out
    assert f'comment "{COMMENT}"' in printed
    assert "jump watch_some" in printed
    assert "elements = { 1024-2322, 2324-65535 }" in printed
    judge = printed.partition("\tchain judge {\n")[2].partition("\t}")[0]
    assert 'comment "sentryfw: held until the verdict"' in judge
    assert _host_ruleset() == before


def test_a_faulty_configuration_is_reported_with_its_exit_code(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("[watch]\nupper_tcp = 0\n")
    assert main([str(file)]) == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "watch.upper_tcp" in printed.err


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_make_target_names_the_module_and_the_configuration() -> None:
    """A dry run: the target itself would set up what is missing."""
    done = subprocess.run(
        ["make", "-n", "table", "CONFIG=/tmp/a.toml"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "-m sentryfw.tools.table /tmp/a.toml" in done.stdout
