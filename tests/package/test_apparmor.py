"""The AppArmor profile, read by the parser of each suite. What it denies at run time is tested on
the stock kernel (tests/stock_kernel)."""

import subprocess
from pathlib import Path, PurePosixPath
from typing import Final

import pytest
import suites

from support.machine import APT, ENVIRONMENT
from support.packaged import ROOT, ROOTS

pytestmark = [pytest.mark.package, pytest.mark.root]

PROFILE: Final = ROOT / "packaging" / "apparmor" / "sentryfwd"
PLACE: Final = PurePosixPath("srv/apparmor")
READ: Final = ("apparmor_parser", "--skip-kernel-load", "--skip-cache")


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def root(request: pytest.FixtureRequest) -> Path:
    suite: str = request.param
    made = suites.made(suite, ROOTS)
    for words in ((*APT, "update"), (*APT, "install", "apparmor")):
        frontend = f"DEBIAN_FRONTEND={ENVIRONMENT['DEBIAN_FRONTEND']}"
        suites.enter(made, PurePosixPath(), "env", frontend, *words)
    (made / PLACE).mkdir(parents=True, exist_ok=True)
    return made


def _read(root: Path, text: str) -> None:
    (root / PLACE / "profile").write_text(text)
    suites.enter(root, PLACE, *READ, "profile")


def test_the_parser_takes_the_profile(root: Path) -> None:
    _read(root, PROFILE.read_text())


def test_the_parser_refuses_a_fault_in_it(root: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        _read(root, PROFILE.read_text().replace("capability net_admin", "capability net_admirer"))
