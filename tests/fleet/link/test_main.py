"""The program: its configuration, its errors, its end."""

import subprocess
import sys
from pathlib import Path

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.fleet.link import main


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "sentryfw.fleet.link.main", *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_without_a_hub_it_ends_with_the_code_that_systemd_does_not_try_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sentryfw.toml"
    path.write_text("")
    done = run("-c", path)
    assert (done.returncode, done.stderr) == (78, f"sentryfw-link: {main.NO_HUB}\n")


def test_a_faulty_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sentryfw.toml"
    path.write_text('[fleet]\nname = "fw1"\n[fleet.hub]\nurl = "http://hub"\n')
    done = run("-c", path)
    assert done.returncode == 78
    assert "is not a hub" in done.stderr


def test_serve_needs_a_hub() -> None:
    with pytest.raises(SentryError, match="there is no hub"):
        main.serve(Config())


def test_it_imports_neither_the_kernel_edge_nor_the_command_line() -> None:
    code = (
        "import sys, sentryfw.fleet.link.main;"
        "print([name for name in sys.modules if name.startswith(('typer', 'redis',"
        " 'sentryfw.netlink', 'sentryfw.netfilter', 'sentryfw.record', 'sentryfw.cli'))])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
